"""Products of two values: elementwise, and by a gate, as in squeeze and excitation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.graph.types import Array
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.ir.elementwise import Product
from nybble.quantize.ir.vocabulary import Made, Result, Translation, Unsupported
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value
from nybble.quantize.ops.registry import register
from nybble.quantize.ops.rounding import median, multiplier

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class Mul(FakeOperation):
    """The product of two activations. The integer network has it exactly."""

    multiplies = True

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two tensors of one shape, or (N, C, H, W) and a gate (N, C, 1, 1)."""
        return x * y


@forms.aten("mul.Tensor", "multiply.Tensor")
def _mul(shape: tuple[int, ...], left: Any, right: Any) -> Result | None:
    return product(left, right)


@forms.onnx("Mul")
def _onnx_mul(node: Any, left: Value, right: Value) -> Result | None:
    return product(left, right)


def product(left: object, right: object) -> Result | None:
    """The product of two values, in either order; ``None`` where one is a constant."""
    if not isinstance(left, Translation) or not isinstance(right, Translation):
        return None
    if _is_gate(right, left):
        return _made(left, right)
    if _is_gate(left, right):
        return _made(right, left)
    if left.extents == right.extents and left.layout() == right.layout():
        return _made(left, right)
    raise Unsupported(
        f"values of (N, {_text(left)}) and (N, {_text(right)}) cannot be multiplied; only values of one shape, or by a "
        "gate (N, C, 1, 1) that convolutions of 1x1 make"
    )


def _made(value: Translation, other: Translation) -> Made:
    return Made((Product(name="", inputs=(value.name, other.name), shape=value.extents),), value.axes)


def _is_gate(gate: Translation, value: Translation) -> bool:
    """Whether all readers see the channels of both on one axis, and the gate's have one number each."""
    return (
        len(value.extents) == 3
        and gate.extents == (value.extents[0], 1, 1)
        and value.extents[1:] != (1, 1)
        and len(gate.axes) == len(value.axes)
        and gate.channel_axis() == value.channel_axis()
    )


def _text(value: Translation) -> str:
    return ", ".join(map(str, value.shape))


class Multiplication(FloatOperation):
    """Two activations give exact sums in the product of their units."""

    forms = forms
    ops = (Product,)
    modules = (Mul,)
    nodes = (graph.Mul,)

    def examples(self) -> Iterator[FloatExample]:
        """Of two activations of one shape, and by a gate, on either side."""
        yield around("elementwise", lambda: lambda x: functional.relu(x) * functional.max_pool2d(x, 3, 1, 1))
        yield around("gate", lambda: lambda x: functional.relu(x) * functional.relu6(x).mean((2, 3), keepdim=True))
        yield around("gate first", lambda: lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True)) * functional.relu(x))

    def prepare(self, op: Product, preparation: Preparation) -> None:
        """Both sides are rounded; the product is not."""
        sources = [preparation.coded(name)[0] for name in op.inputs]
        preparation.sums[op.name] = preparation.step(op.name, Mul(), *sources)

    def convert(self, module: Mul, step: Step, conversion: Conversion) -> None:
        """Units multiply."""
        left, right = (float(conversion.units[name]) for name in step.inputs)
        conversion.units[step.name] = np.full(conversion.type_of(step.inputs[0]).shape[0], left * right)
        conversion.append(step, graph.Mul)

    def restore(self, node: graph.Mul, restoration: Restoration) -> None:
        """Nothing is rounded."""
        restoration.append(node, Mul(), *node.inputs)

    def scale_behind(self, node: graph.Mul, rounding: graph.Quantize, restoration: Restoration) -> float | None:
        """What its units leave to the factors."""
        return median(_unit(node, restoration) / multiplier(rounding))

    def unit_of_sums(self, node: graph.Mul, restoration: Restoration) -> Array | None:
        """It reads codes."""
        return None


def _unit(node: graph.Mul, restoration: Restoration) -> Array:
    channels = restoration.graph.values[node.name].shape[0]
    left, right = (restoration.scale(name) for name in node.inputs)
    return np.full(channels, left * right)


register(Multiplication())
