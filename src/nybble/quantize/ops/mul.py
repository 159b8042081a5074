"""Products of two values: elementwise, and by a gate, as in squeeze and excitation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble import graph
from nybble.graph.types import Array
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import number
from nybble.quantize.ir.elementwise import GatedProduct, Product
from nybble.quantize.ir.float_network import FloatNetwork
from nybble.quantize.ir.gates import drop_repetitions, make_gates_images
from nybble.quantize.ir.vocabulary import STACKED, Made, MadeStack, Result, Stack, Translation, Unsupported
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class Mul(FakeOperation):
    """The product of two activations. The integer network has it exactly.

    Parameters
    ----------
    ratio : Tensor, optional
        (C): what the product is multiplied by. Only a restored network has one, where what becomes of the product ties
        its unit to another than the product of both steps.
    """

    ratio: Tensor | None

    def __init__(self, ratio: Tensor | None = None) -> None:
        super().__init__()
        self.multiplies = ratio is None
        self.register_buffer("ratio", ratio)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Two tensors of one shape, or (N, C, H, W) and a gate (N, C, 1, 1)."""
        product = x * y
        return product if self.ratio is None else product * self.ratio.reshape(-1, *[1] * (x.dim() - 2))


@forms.aten("mul.Tensor", "multiply.Tensor", stacks=True)
def _mul(shape: tuple[int, ...], left: Any, right: Any) -> Result | None:
    return product(left, right)


@forms.onnx("Mul", stacks=True)
def _onnx_mul(node: Any, left: Value, right: Value) -> Result | None:
    return product(left, right)


def product(left: object, right: object) -> Result | None:
    """The product of two values, in either order, or of two stacks; ``None`` where one is a constant."""
    if isinstance(left, Stack) and isinstance(right, Stack):
        return _of_stacks(left, right)
    if isinstance(left, Stack) or isinstance(right, Stack):
        raise Unsupported(STACKED)
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
        "gate (N, C, 1, 1) that convolutions of 1x1 or linear layers make"
    )


def _of_stacks(left: Stack, right: Stack) -> MadeStack:
    if left.axis != right.axis or len(left.values) != len(right.values):
        raise Unsupported("stacks can be multiplied only if they are of as many values, on the same axis")
    found = [product(*pair) for pair in zip(left.values, right.values, strict=True)]
    return MadeStack(tuple(part for part in found if isinstance(part, Made)), left.axis)


def _made(value: Translation, other: Translation) -> Made:
    return Made((Product(name="", inputs=(value.name, other.name), shape=value.extents),), value.axes)


def _is_gate(gate: Translation, value: Translation) -> bool:
    """Whether all readers see the channels of both on one axis, and the gate's have one number each.

    A gate of linear layers is a vector that readers see as (C, 1, 1); `make_gates_images` makes it one.
    """
    return (
        len(value.extents) == 3
        and gate.extents in ((value.extents[0],), (value.extents[0], 1, 1))
        and value.extents[1:] != (1, 1)
        and len(gate.axes) == len(value.axes)
        and gate.channel_axis() == value.channel_axis()
    )


def _text(value: Translation) -> str:
    return ", ".join(map(str, value.shape))


class _LinearGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(6, 3), nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(x)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(y.mean((2, 3))))))
        return y * gate.reshape(-1, 6, 1, 1)


class Multiplication(FloatOperation):
    """Two activations give exact sums in the product of their units."""

    forms = forms
    ops = (Product, GatedProduct)
    modules = (Mul,)
    nodes = (graph.Mul,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover two activations of one shape, and a gate on either side."""
        yield around("elementwise", lambda: lambda x: functional.relu(x) * functional.max_pool2d(x, 3, 1, 1))
        yield around("gate", lambda: lambda x: functional.relu(x) * functional.relu6(x).mean((2, 3), keepdim=True))
        yield around("gate of linear layers", _LinearGate)
        yield around("gate first", lambda: lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True)) * functional.relu(x))

    def rewrite(self, network: FloatNetwork) -> None:
        """The product repeats gates itself; gates of linear layers become images of one pixel."""
        drop_repetitions(network)
        make_gates_images(network)

    def prepare(self, op: Product, preparation: Preparation) -> None:
        """Both operands are rounded; the product is not."""
        sources = [preparation.coded(name)[0] for name in op.inputs]
        preparation.sums[op.name] = preparation.step(op.name, Mul(), *sources)

    def convert(self, module: Mul, step: Step, conversion: Conversion) -> None:
        """The unit of the product is the product of the units."""
        left, right = (float(conversion.units[name]) for name in step.inputs)
        channels = conversion.type_of(step.inputs[0]).shape[0]
        ratio = np.ones(channels) if module.ratio is None else number(module.ratio)
        conversion.units[step.name] = left * right * ratio
        conversion.append(step, graph.Mul)

    def restore(self, node: graph.Mul, restoration: Restoration) -> None:
        """The product gets a ratio only if its readers imply a unit other than the product of both steps."""
        ratio = restoration.unit(node) / self.own_unit(node, restoration)
        is_one = bool(np.all(np.abs(ratio - 1) < 1e-6))
        restoration.append(node, Mul(None if is_one else torch.from_numpy(ratio).float()), *node.inputs)

    def own_unit(self, node: graph.Mul, restoration: Restoration) -> Array:
        """The product of both steps."""
        left, right = (restoration.scale(name) for name in node.inputs)
        return np.full(restoration.graph.values[node.name].shape[0], left * right)


register(Multiplication())
