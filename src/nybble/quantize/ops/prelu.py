"""PReLU with a slope per channel; one slope for all is a table (:mod:`nybble.quantize.ops.table`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble import graph
from nybble.graph.rescale import rescale
from nybble.graph.types import Array, DType
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer, number
from nybble.quantize.ir import float_network
from nybble.quantize.ir.vocabulary import Made, Result, Unsupported, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, constant_of, tensor_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class PReLU(FakeOperation):
    """``x`` from 0 on, ``slope * x`` below, a slope per channel. The quantizer behind it rounds its result.

    Parameters
    ----------
    slope : Tensor
        (C). It is not trained.
    """

    slope: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope.detach().clone().float())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...)."""
        return functional.prelu(x, self.slope)


@forms.aten("prelu.default", "_prelu_kernel.default")
def _aten_prelu(shape: tuple[int, ...], x: Any, weight: Any) -> Result:
    return _slopes(x, torch.as_tensor(weight))


@forms.onnx("PRelu")
def _onnx_prelu(node: Any, x: Value, slope: Value) -> Result:
    return _slopes(x, tensor_of(constant_of(slope, "its slope")))


def _slopes(x: Any, slope: Tensor) -> Result:
    value = value_of(x)
    flat = slope.detach().float().reshape(-1)
    if value.channel_axis() != 0 or len(flat) != value.extents[0] or not bool(torch.isfinite(flat).all()):
        raise Unsupported(f"its {len(flat)} slopes are not one for each of {value.extents[0]} channels")
    return Made((float_network.Slopes(name="", inputs=(value.name,), shape=value.extents, slope=flat),), value.axes)


class Slope(FloatOperation):
    """Exact sums, rounded by one factor for each sign."""

    forms = forms
    ops = (float_network.Slopes,)
    modules = (PReLU,)
    nodes = (graph.PReLU,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover slopes of either sign, behind a layer."""
        yield around("slopes", _Slopes)

    def prepare(self, op: float_network.Slopes, preparation: Preparation) -> None:
        """Add two steps: the function of exact sums, and its quantizer, which concatenations may share."""
        source = op.inputs[0]
        read = preparation.sums[source] if source in preparation.sums else preparation.coded(source)[0]
        preparation.sums[op.name] = preparation.step(op.name, PReLU(op.slope), read)
        preparation.coded(op.name)
        # Nothing can be added to them.
        del preparation.sums[op.name]

    def convert(self, module: PReLU, step: Step, conversion: Conversion) -> None:
        """The node is made once the quantizer behind it is known."""
        conversion.deferred[step.name] = lambda quantizer, behind: _append(module, step, quantizer, behind, conversion)

    def restore(self, node: graph.PReLU, restoration: Restoration) -> None:
        """The slopes follow from the factors."""
        if np.any(node.factor.numpy() == 0):
            raise QuantizeError(f"{node.name}: a factor of 0 says no slope")
        slope = node.negative_factor.numpy() / node.factor.numpy().astype(np.float64)
        quantizer = restoration.quantizer(node.name, node.output_type, node.shift)
        restoration.append_rounded(node, PReLU(torch.from_numpy(slope).float()), quantizer, node.inputs[0])

    def step_of(self, node: graph.PReLU, restoration: Restoration) -> float:
        """The same as for a rounding of these sums."""
        return restoration.chosen_scale(cast(graph.Quantize, node))

    def unit_of_sums(self, node: graph.PReLU, restoration: Restoration) -> Array | None:
        """From the factor of values that are not negative."""
        unit: Array = restoration.scale(node.name) * _multiplier(node)
        return unit


class _Slopes(nn.Module):
    """A PReLU of drawn slopes."""

    def __init__(self) -> None:
        super().__init__()
        self.function = nn.PReLU(6)
        nn.init.uniform_(self.function.weight, -0.2, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)
        return result


def _multiplier(node: graph.PReLU) -> Array:
    return node.factor.numpy().astype(np.float64) / 2.0**node.shift


def _append(module: PReLU, step: Step, quantizer: ActivationQuantizer, behind: Step, conversion: Conversion) -> None:
    (source,) = step.inputs
    reads = conversion.type_of(source)
    factors = np.broadcast_to(conversion.units[source], reads.shape[:1]) / number(quantizer.step())
    slope = number(module.slope)
    # The larger of both decides the shift; each then rounds to whole numbers.
    largest = factors * np.maximum(1.0, np.abs(slope))
    reach = np.minimum(float(quantizer.dtype.magnitude), reads.magnitude * largest)
    shift = quantizer.shifts.get(behind.name, quantizer.shift)
    chosen = rescale(largest, reach, tolerance=conversion.tolerance, shift=shift)
    above = np.rint(factors * 2.0**chosen.shift).astype(np.int64)
    below = np.rint(factors * slope * 2.0**chosen.shift).astype(np.int64)
    conversion.append(
        step,
        graph.PReLU,
        input_type=reads.dtype,
        output_type=quantizer.dtype,
        factor=graph.Tensor.from_array(chosen.factor.dtype, above),
        negative_factor=graph.Tensor.from_array(DType.S32, below),
        shift=chosen.shift,
    )
    conversion.units[behind.name] = number(quantizer.step())
    conversion.values[behind.name] = conversion.values[step.name]


register(Slope())
