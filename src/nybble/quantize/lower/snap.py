"""Weight steps for which the integer network's multipliers are exact at a shift of 16.

A layer's sums are multiplied by ``s_in * s_w / s_out``, which the integer network expresses as ``factor / 2**16``.
Rounding the factor changes results, and more so if it is small: a factor of 30 by up to one part in 60, two steps of
u7. The alternative is to choose ``s_w`` so that the factor needs no rounding. ``s_w`` grows by less than one part in
``factor``, as if the channel's range were wider by that, and fake-quantized training includes the change.

The factor of a product of two activations is the product of their steps by that of the result. The result's is
enlarged, as its range alone may grow without clipping anything.

If the factor is small, the change is large but harmless. With a factor below 8, one code of a weight changes a result
by ``8 / 2**16`` steps times the input's code. Weights that are wrong by half a code, with 1,000 inputs of 127 and
random signs, change it by about an eighth of a step. Such channels have tiny weights.
"""

from __future__ import annotations

import torch

from nybble.graph import DType
from nybble.graph.rescale import PREFERRED_SHIFT
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer


@torch.no_grad()
def snap_steps(network: QuantizedNetwork) -> int:
    """Enlarge weight steps so that factors at a shift of 16 are exact.

    Call it after calibration, and again whenever ranges change. A second call changes nothing.

    Returns
    -------
    int
        Number of layers whose factors are exact now. It excludes layers that make logits, which have no factors, and
        those with a multiplier of 1 or more, whose factors need more than 16 bits at a shift of 16.
    """
    owners: dict[str, QuantizedLayer] = {}
    products: dict[str, tuple[ActivationQuantizer, ActivationQuantizer]] = {}
    codes = {network.INPUT: network.input_quantizer}
    settled: set[str] = set()
    made: set[ActivationQuantizer] = set()
    exact = 0
    for step in network.steps:
        source = step.inputs[0]
        if isinstance(step.module, QuantizedLayer):
            owners[step.name] = step.module
        elif isinstance(step.module, ActivationQuantizer):
            if source in owners and owners[source].name not in settled:
                settled.add(owners[source].name)
                exact += _snap(owners[source], step.module)
            elif source in products and step.module not in made:
                _snap_result(*products[source], step.module)
            made.add(step.module)
            codes[step.name] = step.module
        elif isinstance(step.module, FakeOperation) and step.module.multiplies:
            products[step.name] = (codes[source], codes[step.inputs[1]])
        elif isinstance(step.module, FakeOperation) and step.module.keeps_unit:
            # An addition keeps the units of its first input.
            if source in owners:
                owners[step.name] = owners[source]
            elif source in products:
                products[step.name] = products[source]
        elif source in codes:
            codes[step.name] = codes[source]
    return exact


def _snap_result(left: ActivationQuantizer, right: ActivationQuantizer, result: ActivationQuantizer) -> None:
    """Enlarge the step of a rounded product: neither side has one that is its alone."""
    factor = left.step().double() * right.step().double() / result.step().double() * 2.0**PREFERRED_SHIFT
    whole = torch.floor(factor * (1 + 1e-6))
    if 1 <= float(whole) <= DType.U16.maximum:
        result.scale.copy_((result.step().double() * factor / whole).float())


def _snap(layer: QuantizedLayer, result: ActivationQuantizer) -> bool:
    step = layer.weight_quantizer.step().double()
    unit = step * layer.input_quantizer.step().double()
    factor = unit / result.step().double() * 2.0**PREFERRED_SHIFT
    # What is a whole number but for float32 stays.
    whole = torch.ceil(factor * (1 - 1e-6)).clamp_min(1)
    fits = whole <= DType.U16.maximum
    layer.weight_quantizer.scale.copy_((step * torch.where(fits, whole / factor, 1.0)).float())
    return bool(fits.all())
