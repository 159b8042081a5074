"""Functions of one value, which the integer network looks up by the value's code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer, number
from nybble.quantize.ir.elementwise import Function, Product, composed, name_of
from nybble.quantize.ir.float_network import FloatNetwork, Op, Rectifier, Sum
from nybble.quantize.ir.fold import nonnegative
from nybble.quantize.ir.rewriting import Region, region, replace_region
from nybble.quantize.ops import function_forms
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.registry import register
from nybble.quantize.ops.rounding import held

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation


class TableFunction(FakeOperation):
    """A function of one value. The quantizer behind it rounds its results, as the integer network's table does.

    The gradient is the function's own, through the rounding on both sides.

    Parameters
    ----------
    function : callable
        Elementwise.
    label : str
        What the graph calls it, where its values are those of no function with a name.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], label: str) -> None:
        super().__init__()
        self.function = function
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return self.function(x)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return self.label


class Interpolated(TableFunction):
    """A table of the integer network as a function of real numbers: linear between its points, constant beyond.

    Parameters
    ----------
    table : Tensor
        (codes): values for the codes from ``first`` on, in steps of the result.
    first : int
    step, result_step : float
        What a step of the value and one of the result stand for.
    label : str
    """

    table: Tensor

    def __init__(self, table: Tensor, first: int, step: float, result_step: float, label: str) -> None:
        super().__init__(self._interpolate, label)
        self.register_buffer("table", table.float())
        self.first, self.unit, self.result_step = first, step, result_step

    def _interpolate(self, x: Tensor) -> Tensor:
        table = self.table.to(x.dtype)
        place = torch.clamp(x / self.unit - self.first, 0, len(table) - 1)
        left = place.detach().floor().long().clamp_max(max(len(table) - 2, 0))
        low, high = table[left], table[left + 1]
        return (low + (high - low) * (place - left)) * self.result_step


class Lookup(FloatOperation):
    """A function of one value, whose input has eight bits and whose result has a quantizer of its own."""

    forms = function_forms.forms
    ops = (Function,)
    modules = (TableFunction,)
    nodes = (graph.Table,)

    def rewrite(self, network: FloatNetwork) -> None:
        """Replace elementwise operations that only a function of one number can express by one function."""
        for name in [op.name for op in network]:
            found = _candidate(network, name)
            if found is not None and found.is_same_for_all_channels():
                replace_region(network, found, composed(found))

    def examples(self) -> Iterator[FloatExample]:
        """Cover a function that is an operator, one of several parts, and one of an activation."""
        yield around("silu", lambda: functional.silu)
        yield around("in parts", lambda: lambda x: x * functional.relu6(x + 3) / 6)
        yield around("of an activation", lambda: lambda x: torch.tanh(functional.max_pool2d(x, 3, 1, 1)))

    def prepare(self, op: Function, preparation: Preparation) -> None:
        """Add two steps: the function, and its quantizer, which concatenations may share."""
        if len(op.inputs) != 1:
            raise QuantizeError(
                f"{op.place or op.name}: {op.label} of two values has no integer form; only as a part of a function of "
                "one value has it"
            )
        source = preparation.coded(op.inputs[0])[0]
        preparation.sums[op.name] = preparation.step(op.name, TableFunction(op.function, op.label), source)
        preparation.coded(op.name)
        # Its values are not sums that others could take in.
        del preparation.sums[op.name]

    def convert(self, module: TableFunction, step: Step, conversion: Conversion) -> None:
        """The table is made once the quantizer behind it is known."""
        conversion.deferred[step.name] = lambda quantizer, behind: _append(module, step, quantizer, behind, conversion)

    def restore(self, node: graph.Table, restoration: Restoration) -> None:
        """The points of the table, and straight lines between them."""
        entries = torch.from_numpy(node.table.numpy().astype(np.float32))
        scale = restoration.scale(node.inputs[0])
        function = Interpolated(entries, node.input_type.minimum, scale, restoration.scale(node.name), node.function)
        quantizer = restoration.quantizer(node.name, node.output_type, None)
        restoration.append_rounded(node, function, quantizer, *node.inputs)

    def step_of(self, node: graph.Table, restoration: Restoration) -> float:
        """The graph leaves it open: such that the largest entry stands for what the largest code does; 1 for gates."""
        largest = max(1, int(np.abs(node.table.numpy().astype(np.int64)).max()))
        readers = restoration.consumers[node.name]
        is_gate = bool(readers) and all(isinstance(reader, graph.Mul) for reader in readers)
        reach = 1.0 if is_gate else restoration.scale(node.inputs[0]) * node.input_type.maximum
        return float(np.float32(held(reach / largest)))


def _candidate(network: FloatNetwork, name: str) -> Region | None:
    """Operations that end with that of this name and should become one function, if there are such."""
    op = next((entry for entry in network if entry.name == name), None)
    if op is None:
        return None
    if len(op.inputs) == 1:
        if isinstance(op, Function) or _clips_below_zero(network, op):
            return _extended(network, Region(op.inputs[0], (op,)))
        return None
    if not isinstance(op, Product | Function | Sum):
        return None
    found = region(network, name)
    if found is None or not found.is_same_for_all_channels():
        return None
    # A sum of what layers and ReLUs give is one that exact sums can express.
    if isinstance(op, Sum) and not any(isinstance(entry, Product | Function) for entry in found.ops):
        return None
    return _extended(network, found)


def _clips_below_zero(network: FloatNetwork, op: Op) -> bool:
    """Whether it is a limit below 0 that nothing around it raises to 0."""
    if not isinstance(op, Rectifier) or op.minimum == 0 or op.inputs[0] in nonnegative(network):
        return False
    readers = network.readers()[op.name]
    return not readers or not all(isinstance(reader, Rectifier) and reader.minimum == 0 for reader in readers)


def _extended(network: FloatNetwork, found: Region) -> Region:
    """With the operations of one number before and behind it that belong to nothing else.

    A ReLU before it stays, so that the function reads codes that are not negative; one behind it has no other place.
    """
    readers = network.readers()
    by_name = {op.name: op for op in network}
    ops, source = list(found.ops), found.source
    inside = {op.name for op in ops}
    while (before := by_name.get(source)) is not None and _joins(before) and not isinstance(before, Rectifier):
        if any(reader.name not in inside for reader in readers[source]):
            break
        ops.insert(0, before)
        inside.add(before.name)
        (source,) = before.inputs
    while len(after := readers[ops[-1].name]) == 1 and _joins(after[0]):
        ops.append(after[0])
    return Region(source, tuple(ops))


def _joins(op: Op) -> bool:
    return op.is_elementwise and len(op.inputs) == 1 and op.is_same_for_all_channels()


def _append(
    module: TableFunction, step: Step, quantizer: ActivationQuantizer, behind: Step, conversion: Conversion
) -> None:
    """Add the table of a function and the rounding behind it, computed in float64."""
    (source,) = step.inputs
    reads = conversion.type_of(source).dtype
    codes = np.arange(reads.minimum, reads.maximum + 1, dtype=np.float64)
    unit, kind = number(quantizer.step()), quantizer.dtype
    real = module.function(torch.from_numpy(codes * float(conversion.units[source]))).numpy()
    steps = real / float(unit)
    if np.isnan(steps).any():
        first = float(codes[np.isnan(steps)][0]) * float(conversion.units[source])
        what = module.label or "its function"
        raise QuantizeError(
            f"{step.name}: {what} gives NaN for {first:.3g}, a value that its input can have; limit that before"
        )
    rounded = np.trunc(np.clip(steps, kind.minimum, kind.maximum) + np.copysign(0.5, steps))
    conversion.append(
        step,
        graph.Table,
        input_type=reads,
        output_type=kind,
        table=graph.Tensor.from_array(graph.DType.S16, rounded.astype(np.int64)),
        function=_name(module),
    )
    conversion.units[behind.name] = unit
    conversion.values[behind.name] = conversion.values[step.name]


def _name(module: TableFunction) -> str:
    if isinstance(module, Interpolated):
        return module.label
    return name_of(module.function, module.label)


register(Lookup())
