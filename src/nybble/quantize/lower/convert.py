"""From a fake-quantized network to the integer network."""

from __future__ import annotations

import numpy as np
import torch

from nybble.graph import Graph
from nybble.graph.rescale import TOLERANCE
from nybble.graph.types import Array
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer, number
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.lower.conversion import Conversion, ConversionReport
from nybble.quantize.ops import operation_of_module
from nybble.quantize.ops.add import Add


def convert(network: QuantizedNetwork, *, tolerance: float = TOLERANCE) -> tuple[Graph, ConversionReport]:
    """Write the integer network.

    Weights become the codes that the fake quantizers round to. Biases become integer units of the sums (s16 if those of
    a layer fit, else s32). Multipliers become factors with a shift.

    Parameters
    ----------
    network : QuantizedNetwork
        With ranges set. It is not changed.
    tolerance : float
        Largest error of a shift of 16, in steps of the result. If the error is larger, a larger shift is used. The
        report has the actual error, and that of the best shift.

    Returns
    -------
    Graph
        With the network's preprocessing and class names.
    ConversionReport

    Raises
    ------
    QuantizeError
        If the network contains NaN or infinity.
    GraphError
        If sums could exceed 2**31 - 1, naming the layer.
    """
    with torch.no_grad():
        conversion = Conversion(network, tolerance, _shortcut_sizes(network))
        for step in network.steps:
            operation_of_module(step.name, step.module).convert(step.module, step, conversion)
        return conversion.finish(), conversion.report


def _shortcut_sizes(network: QuantizedNetwork) -> dict[str, Array]:
    """By layer, the largest shortcut that is added to its sums: (K,) or a scalar array."""
    quantizers = {network.INPUT: network.input_quantizer}
    sizes: dict[str, Array] = {}
    for step in network.steps:
        if isinstance(step.module, ActivationQuantizer):
            quantizers[step.name] = step.module
        elif step.inputs[0] in quantizers and not isinstance(step.module, QuantizedLayer | Add):
            quantizers[step.name] = quantizers[step.inputs[0]]
    for step in reversed(network.steps):
        if isinstance(step.module, Add):
            quantizer = quantizers[step.inputs[1]]
            ratio = np.ones(()) if step.module.ratio is None else np.abs(number(step.module.ratio))
            own = number(quantizer.step()) * quantizer.dtype.magnitude * ratio
            sizes[step.inputs[0]] = own + sizes.get(step.name, np.zeros(()))
        elif isinstance(step.module, FakeOperation) and step.module.keeps_unit and step.name in sizes:
            sizes[step.inputs[0]] = sizes[step.name]
    return sizes
