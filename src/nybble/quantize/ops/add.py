"""Additions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble import graph
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import number, round_away
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, operand_of
from nybble.quantize.ops.registry import register
from nybble.quantize.ops.rounding import is_rescaling, median, multiplier

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


#: Units of a sum of two activations in a step of the result: a power of two, so that the way back is exact.
ADDED_UNITS = 2.0**10


class MainOperand(NamedTuple):
    """Facts about the first of two added activations that only a restored network has.

    Attributes
    ----------
    ratio : Tensor or None
        (K,): what it is multiplied by.
    shift : int or None
        Of its rescaling.
    units : float
        Units of the sum in a step of the result.
    label : str or None
        The name of its rescaling.
    """

    ratio: Tensor | None = None
    shift: int | None = None
    units: float = ADDED_UNITS
    label: str | None = None


class _WholeUnits(torch.autograd.Function):
    """A shortcut times ``ratio`` in whole units (K) of the sums that take it in; the gradient knows no rounding."""

    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, unit: Tensor, ratio: Tensor | None) -> Tensor:
        ctx.ratio = ratio
        scaled = torch.mul(shortcut, 1.0 / unit if ratio is None else ratio / unit)
        return round_away(scaled).mul_(unit)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] if ctx.ratio is None else gradients[0] * ctx.ratio, None, None


class Add(FakeOperation):
    """The sum of two values: what a convolution sums up, and a shortcut.

    Parameters
    ----------
    layer : QuantizedLayer, optional
        The layer whose sums are the first value. In mode ``quantize`` the shortcut is rounded to integer units of them.
    ratio : Tensor, optional
        (K,): factors of the shortcut. Only a restored network has them: there the integer network's factors contain
        slightly more than the scales of its values.
    shift : int, optional
        Of the shortcut's rescaling; by default ``convert`` chooses.
    label : str, optional
        What the shortcut's rescaling is called in the integer network.
    main : MainOperand, optional
        Of the first value where it is an activation as well.
    """

    keeps_unit = True
    ratio: Tensor | None
    main_ratio: Tensor | None

    def __init__(
        self,
        layer: QuantizedLayer | None = None,
        ratio: Tensor | None = None,
        shift: int | None = None,
        label: str | None = None,
        main: MainOperand | None = None,
    ) -> None:
        super().__init__()
        self.shift = shift
        self.label = label
        self.main = main or MainOperand()
        self.register_buffer("main_ratio", self.main.ratio)
        self.register_buffer("ratio", ratio)
        # In a tuple, so that it is not registered twice: the network owns it.
        self._takes = (layer,)

    @property
    def layer(self) -> QuantizedLayer | None:
        """Whose sums the first value is, if they are a layer's."""
        return self._takes[0]

    def forward(self, sums: Tensor, shortcut: Tensor) -> Tensor:
        """Two tensors of one shape."""
        shape = (-1, *[1] * (shortcut.dim() - 2))
        ratio = None if self.ratio is None else self.ratio.reshape(shape)
        if self.mode == "quantize" and self.layer is not None:
            whole: Tensor = _WholeUnits.apply(shortcut, self.layer.unit().reshape(shape), ratio)
            return sums + whole
        if self.main_ratio is not None:
            sums = sums * self.main_ratio.reshape(shape)
        return sums + (shortcut if ratio is None else shortcut * ratio)


@forms.aten("add.Tensor", "add.Scalar")
def _add(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.add(left, right, alpha)


@forms.aten("sub.Tensor", "sub.Scalar", "subtract.Tensor")
def _sub(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.subtract(left, right, alpha)


@forms.aten("rsub.Tensor", "rsub.Scalar")
def _rsub(shape: tuple[int, ...], left: Any, right: Any, alpha: float = 1) -> Result:
    return vocabulary.subtract(right, left, alpha)


@forms.onnx("Add", "Sum")
def _onnx_add(node: Any, *values: Value) -> Result:
    return vocabulary.sum_of([operand_of(value) for value in values])


@forms.onnx("Sub")
def _onnx_subtract(node: Any, left: Value, right: Value) -> Result:
    return vocabulary.subtract(operand_of(left), operand_of(right))


class _Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(x)
        return functional.relu(self.layer(y) + y)


class Addition(FloatOperation):
    """A layer's exact sums take in a shortcut, or two activations are added."""

    forms = forms
    ops = (float_network.Sum,)
    modules = (Add,)
    nodes = (graph.Add,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover a layer's sums and a shortcut, and two activations, also of one layer."""
        yield around("shortcut", _Shortcut)
        yield around(
            "activations", lambda: lambda x: functional.relu(x) + functional.max_pool2d(functional.relu(x), 3, 1, 1)
        )
        yield around("both signs", lambda: lambda x: functional.relu(x) + functional.relu6(-x))

    def prepare(self, op: float_network.Sum, preparation: Preparation) -> None:
        """The operand with the longer path is the main one; its step adds the other operand."""
        left, right = op.inputs
        if left == right:
            raise QuantizeError(f"{op.place or op.name}: a value cannot be added to itself; double a layer's weights")
        by_depth = sorted(op.inputs, key=lambda name: -preparation.depth[name])
        main = next((name for name in by_depth if preparation.is_exclusive(name)), None)
        if main is None:
            inputs = [preparation.coded(name)[0] for name in by_depth]
        else:
            other = right if main == left else left
            shortcut = preparation.coded(other)[0]
            inputs = [preparation.sums[main], shortcut]
            if main in preparation.owners:
                preparation.owners[op.name] = preparation.owners[main]
        preparation.sums[op.name] = preparation.step(op.name, Add(preparation.owners.get(op.name)), *inputs)

    def convert(self, module: Add, step: Step, conversion: Conversion) -> None:
        """Convert codes to the unit of the sums; two activations get a common fine unit."""
        main, shortcut = step.inputs
        step_of_result = conversion.finest.get(step.name)
        if conversion.is_code(main):
            smallest = min(float(conversion.units[main]), float(conversion.units[shortcut]))
            channels = conversion.type_of(main).shape[0]
            unit = np.full(channels, (step_of_result or smallest * 4) / module.main.units)
            own = np.ones_like(unit) if module.main_ratio is None else number(module.main_ratio)
            name = module.main.label or f"{step.name}.left"
            left = conversion.rescaled(step, main, unit, own, name, module.main.shift)
        else:
            unit = conversion.units[main]
            left = conversion.values[main]
        ratio = np.ones_like(unit) if module.ratio is None else number(module.ratio)
        label = module.label or f"{step.name}.shortcut"
        right = conversion.rescaled(step, shortcut, unit, ratio, label, module.shift)
        conversion.units[step.name] = unit
        conversion.append(step, graph.Add, inputs=(left, right))

    def restore(self, node: graph.Add, restoration: Restoration) -> None:
        """A shortcut gets a ratio only if its factors contain more than the scales of the two values."""
        main, shortcut, rescaling = operands(node, restoration)
        unit = sum_unit(main, restoration)
        module = Add(
            restoration.layers.get(main),
            _ratio(rescaling, unit, restoration),
            rescaling.shift,
            shortcut,
            _main_operand(node, main, rescaling, restoration),
        )
        left = main if main in restoration.made else restoration.nodes[main].inputs[0]
        restoration.append(node, module, left, rescaling.inputs[0])
        restoration.inherit(node, main)

    def unit_of_sums(self, node: graph.Add, restoration: Restoration) -> Array | None:
        """The unit of the addition's own result."""
        return restoration.unit_from_readers(node.name)

    def main_input(self, node: graph.Add, restoration: Restoration) -> str | None:
        """The operand that is not the shortcut."""
        return operands(node, restoration)[0]

    def scale_behind(self, node: graph.Add, rounding: graph.Quantize, restoration: Restoration) -> float | None:
        """The addition links the scales of a shortcut and of the rounded sum."""
        main, _, rescaling = operands(node, restoration)
        shortcut = rescaling.inputs[0]
        left = restoration.nodes[main]
        if is_rescaling(left):
            return restoration.scale(left.inputs[0]) / median(multiplier(left) * multiplier(rounding))
        if not restoration.is_projection(shortcut):
            return restoration.scale(shortcut) / median(multiplier(rounding) * multiplier(rescaling))
        return None

    def scale_of_taken(self, node: graph.Add, rescaling: graph.Quantize, restoration: Restoration) -> float | None:
        """A projection shortcut has the units of the sums that it is added to."""
        main, _, taken = operands(node, restoration)
        if taken.name != rescaling.name:
            return None
        return median(multiplier(rescaling) * sum_unit(main, restoration))


def operands(node: graph.Add, restoration: Restoration) -> tuple[str, str, graph.Quantize]:
    """The value whose units the sum has, the other, and the other's rescaling."""
    left, right = node.inputs
    for main, other in ((left, right), (right, left)):
        rescaling = restoration.nodes.get(other)
        both = restoration.is_rescaled(left) == restoration.is_rescaled(right)
        is_free = not restoration.is_rescaled(main) or both
        if rescaling is not None and is_rescaling(rescaling) and is_free:
            return main, other, rescaling
    raise QuantizeError(f"{node.name}: adds two layers' sums, whose units cannot be told apart")


def sum_unit(name: str, restoration: Restoration) -> Array:
    """(K,): what a unit of an addition's first operand stands for."""
    return restoration.unit(restoration.root_of(name))


def _ratio(rescaling: graph.Quantize, unit: Array, restoration: Restoration) -> Tensor | None:
    """(K,): what codes are multiplied by, beyond their step, when they are brought into a unit; ``None`` if by 1."""
    ratio = multiplier(rescaling) * unit / restoration.scale(rescaling.inputs[0])
    return None if bool(np.all(np.abs(ratio - 1) < 1e-6)) else torch.from_numpy(ratio).float()


def _main_operand(
    node: graph.Add, main: str, rescaling: graph.Quantize, restoration: Restoration
) -> MainOperand | None:
    """What is kept of the first of two activations; ``None`` for a layer's sums."""
    left = restoration.nodes[main]
    if not is_rescaling(left):
        return None
    unit = sum_unit(main, restoration)
    if np.any(np.abs(unit - unit[0]) > 1e-6 * unit[0]):
        raise QuantizeError(f"{node.name}: adds activations in units that differ from channel to channel")
    sources = (restoration.scale(entry.inputs[0]) for entry in (left, rescaling))
    units = (restoration.finest_rounding(left) or min(sources) * 4) / float(unit[0])
    if abs(units / ADDED_UNITS - 1) < 1e-6:
        units = ADDED_UNITS
    return MainOperand(_ratio(left, unit, restoration), left.shift, units, main)


register(Addition())
