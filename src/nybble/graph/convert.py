"""A four-bit network in eight bits: the same weights and clip ranges, activations in finer steps.

Every value gets a *unit ratio*: how many new units make one old unit, an exact fraction. A four-bit activation keeps
its range but has 127 steps of it instead of 15 (``u4``) or 7 (``s4``), so its ratio is 127/15 or 127/7; sums follow
from what they add up. Biases, factors, maxima and scales are then the old ones in the new units, rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.graph import Graph
from nybble.graph.nodes import Node
from nybble.graph.ops import Operation, Quantize, operation_of
from nybble.graph.ops.questions import requantization, weighted
from nybble.graph.ops.units import WIDER, Unit, rounded
from nybble.graph.rescale import Candidate, choose
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, SUMS, DType
from nybble.graph.value_type import MAX_SHIFT

#: New steps per old step. For s4 the symmetric range is kept: -8 becomes -128, which is -7.06 old steps.
STEPS = {dtype: Fraction(wider.maximum, dtype.maximum) for dtype, wider in WIDER.items()}
#: A factor's rounding may move a result by a quarter of a step of eight bits at the end of its range.
TOLERANCE = 2.0**-9
#: Integers up to here are exact in float32.
_EXACT_FLOAT = 1 << 24
#: Room that rounded factors need below the limit of sums.
_MARGIN = Fraction(129, 128)

_ONE = Fraction(1)


@dataclass(frozen=True)
class Conversion:
    """A converted network, and the new units of its values.

    Attributes
    ----------
    graph : Graph
    units : mapping of str to Fraction
        Number of new units per old unit, by value.
    errors : mapping of str to float
        For each Quantize whose factors were rounded again, the largest error that this causes, relative to the range of
        its output type (for sums: relative to the result).
    """

    graph: Graph
    units: Mapping[str, Fraction] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)


def to_bits(graph: Graph, bits: int) -> Graph:
    """The same network with 8-bit weights and activations; one that has no four-bit part is returned as it is.

    See :func:`convert`.
    """
    return convert(graph, bits).graph


def convert(graph: Graph, bits: int) -> Conversion:
    """Widen every four-bit weight and activation.

    Weights keep their values and become s8; results of Quantize and Table change from u4 to u7 and from s4 to s8 with
    the clip range they had. If a table is now read in finer steps than it is known in, the entries between are
    interpolated. The network's inputs, 8-bit parts, names, preprocessing and class names stay the same.
    If sums of different units meet in an addition, an additional Quantize brings them to one unit. Its name is that of
    the convolution with the suffix ``_rescaled``.

    Parameters
    ----------
    graph : Graph
    bits : int
        8.

    Returns
    -------
    Conversion

    Raises
    ------
    GraphError
        If the sums could pass 2**31 - 1 in the finer units, naming the node, or if ``bits`` is 4.
    ValueError
        If ``bits`` is neither 4 nor 8.
    """
    if bits not in (4, 8):
        raise ValueError(f"a network can be converted to 8 bits, not to {bits}")
    wide = not has_four_bits(graph)
    if bits == 4:
        why = "going from 8 bits to 4 takes training, not conversion" if wide else "the network has 4 bits already"
        raise GraphError(f"{why}; only a 4-bit network can be converted, to 8 bits")
    if wide:
        return Conversion(graph, dict.fromkeys(graph.values, _ONE))
    for node in graph:
        _operation(node)
    return _Converter(graph).run()


def has_four_bits(graph: Graph) -> bool:
    """Whether any weight, or any result of a Quantize or a Table, has four bits. Inputs do not count."""
    return any(
        ((layer := weighted(node)) is not None and layer.weight.dtype in WIDER)
        or (graph.values[node.name].dtype in WIDER and _has_own_unit(node))
        for node in graph
    )


def _has_own_unit(node: Node) -> bool:
    operation = operation_of(node)
    return operation is not None and operation.unit is Unit.OWN


def _operation(node: Node) -> Operation[Any]:
    operation = operation_of(node)
    if operation is None or operation.unit is None:
        raise GraphError(f"no conversion is defined for {node.op}", node=node.name)
    return operation


class _Converter:
    def __init__(self, graph: Graph) -> None:
        self._old = graph
        self._units = _units(graph)
        self._types = {entry.name: entry.dtype for entry in graph.inputs}
        self._rescaled: dict[str, str] = {}
        self._nodes: list[Node] = []
        self._errors: dict[str, float] = {}

    def run(self) -> Conversion:
        old = self._old
        for node in old:
            self._append(self._converted(node))
            if _operation(node).unit in (Unit.WEIGHTED, Unit.PRODUCT):
                self._rescale(node)
        try:
            graph = Graph(
                old.inputs,
                self._nodes,
                old.outputs,
                preprocessing=old.preprocessing,
                class_names=old.class_names,
                task=old.task,
            )
        except GraphError as error:
            raise GraphError(f"at 8 bits, {error.message}", node=error.node, field=error.field) from error
        return Conversion(graph, self._units.of_values, self._errors)

    def _append(self, node: Node) -> None:
        self._nodes.append(node)
        unit = _operation(node).unit
        if (rule := requantization(node)) is not None:
            self._types[node.name] = rule.output_type
        elif unit is Unit.INPUT:
            self._types[node.name] = self._types[node.inputs[0]]
        elif unit is Unit.OWN:
            before = self._old.values[node.name].dtype
            self._types[node.name] = before if self._units.of_values[node.name] == 1 else WIDER[before]

    def _converted(self, node: Node) -> Node:
        """The node in the new units; the same object if nothing changes."""
        if isinstance(node, Quantize):
            return self._quantize(node)
        operation = _operation(node)
        inputs, input_type = node.inputs, self._types.get(node.inputs[0])
        if operation.unit is Unit.JOINT:
            inputs = tuple(self._rescaled.get(name, name) for name in node.inputs)
        elif operation.unit is Unit.INPUT:
            inputs, input_type = self._of_one_unit(node)
        ratio = self._units.of_values[node.inputs[0] if operation.unit is Unit.REAL else node.name]
        converted: Node = operation.converted(node, input_type, ratio)
        return converted if inputs == node.inputs else replace(converted, inputs=inputs)

    def _of_one_unit(self, node: Node) -> tuple[tuple[str, ...], DType]:
        """The names that replace the node's inputs, and their type.

        A network's input keeps its four bits. If it is joined with values that became wider, it is widened there.
        """
        unit = self._units.of_values[node.name]
        before = self._old.values[node.name].dtype
        widened = WIDER[before] if unit != 1 else before
        kept = {name: self._old.values[name] for name in node.inputs if self._units.of_values[name] != unit}
        names = {
            name: self._rescaling(name, value.dtype, widened, value.shape[0], unit, Fraction(value.magnitude))
            for name, value in kept.items()
        }
        return tuple(names.get(name, name) for name in node.inputs), widened

    def _quantize(self, node: Quantize) -> Quantize:
        source = self._old.values[node.inputs[0]]
        before, after = self._units.of_values[node.inputs[0]], self._units.of_values[node.name]
        input_type = self._types.get(node.inputs[0], node.input_type)
        output_type = WIDER.get(node.output_type, node.output_type)
        factor, shift = node.factor, node.shift
        if after != before:
            chosen = requantize(node, output_type, after / before, source.magnitude * before)
            factor, shift = chosen.tensor(), chosen.shift
            self._errors[node.name] = chosen.error
        return replace(node, input_type=input_type, output_type=output_type, factor=factor, shift=shift)

    def _rescale(self, node: Node) -> None:
        """Bring sums of a convolution or products to the unit of the additions and ReLUs that read them."""
        own, joint = self._units.of_values[node.name], self._units.of_joints.get(node.name)
        if joint is None or joint == own:
            return
        value = self._old.values[node.name]
        name = self._rescaling(node.name, DType.S32, DType.S32, value.shape[0], joint / own, value.magnitude * own)
        self._units.of_values[name] = joint
        self._rescaled[node.name] = name

    def _rescaling(
        self, source: str, before: DType, after: DType, channels: int, ratio: Fraction, magnitude: Fraction
    ) -> str:
        """An additional Quantize that brings a value to another unit; its name."""
        name = f"{source}_rescaled"
        while name in self._old.values or name in self._units.of_values:
            name += "_"
        plain = Quantize(
            name=name,
            inputs=(source,),
            input_type=before,
            output_type=after,
            factor=Tensor.from_array(DType.U16, np.ones(channels, np.uint16)),
            shift=0,
        )
        chosen = requantize(plain, after, ratio, magnitude)
        self._errors[name] = chosen.error
        self._units.of_values[name] = ratio
        self._append(replace(plain, factor=chosen.tensor(), shift=chosen.shift))
        return name


@dataclass
class _Units:
    """Ratios of values, and for sums of convolutions that an Add or a ReLU reads, the ratio it needs."""

    of_values: dict[str, Fraction]
    of_joints: dict[str, Fraction]


def _units(graph: Graph) -> _Units:
    """Unit ratios of all values.

    Those of activations follow from their type and those of convolutions from what they read. The values that additions
    and ReLUs connect share one: the finest of their convolutions, if the sums stay within range, else that of the old
    network, which always fits. A Quantize to a sum can produce any unit.
    """
    units = {entry.name: _ONE for entry in graph.inputs}
    for node in graph:
        kind, dtype = _operation(node).unit, graph.values[node.name].dtype
        if kind is Unit.OWN and dtype not in SUMS:
            units[node.name] = STEPS.get(dtype, _ONE)
        elif kind in (Unit.INPUT, Unit.WEIGHTED):
            # They differ only if a network's input, which keeps its four bits, is joined with values that became wider.
            units[node.name] = max(units[name] for name in node.inputs)
        elif kind is Unit.PRODUCT:
            units[node.name] = math.prod((units[name] for name in node.inputs), start=_ONE)
        elif kind is Unit.REAL:
            units[node.name] = _ONE
    joints: dict[str, Fraction] = {}
    # In the order of each group's first value, so that the unit of a Quantize's input is known before.
    for group in _tied(graph):
        weighted = {units[name] for name in group if name in units}
        # Without convolutions the first value comes from a Quantize: additions and ReLUs read others of their group.
        wishes = sorted(weighted, reverse=True) or [units[graph[group[0]].inputs[0]]]
        largest = max(graph.values[name].magnitude for name in group)
        unit = next((wish for wish in wishes if largest * wish * _MARGIN <= SUM_LIMIT), _ONE)
        for name in group:
            (joints if name in units else units)[name] = unit
    readers = graph.consumers()
    return _Units(
        units,
        {
            name: unit
            for name, unit in joints.items()
            if any(_operation(reader).unit is Unit.JOINT for reader in readers[name])
        },
    )


def _tied(graph: Graph) -> list[list[str]]:
    """Groups of sums that additions and ReLUs force to one unit. Groups and members are in the graph's order."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for node in graph:
        if graph.values[node.name].dtype in SUMS:
            parent[node.name] = node.name
            if _operation(node).unit is Unit.JOINT:
                for name in node.inputs:
                    parent[root(name)] = root(node.name)
    groups: dict[str, list[str]] = {}
    for name in parent:
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())


def requantize(node: Quantize, output_type: DType, ratio: Fraction, magnitude: Fraction) -> Candidate:
    """The factors of ``node`` times ``ratio``, with an error relative to the range of the result.

    u16 if it is precise enough, else u32; and a shift that lets an engine requantize in float32 (bytes) or multiply in
    32 bits (sums), unless only a larger one is precise enough. Among these the largest shift is taken: doubling a
    factor and its divisor never makes the rounding worse.

    Parameters
    ----------
    node : Quantize
        Its ``factor`` and ``shift`` are the old ones.
    output_type : DType
        The new one.
    ratio : Fraction
        New output units per old one, divided by new input units per old one.
    magnitude : Fraction
        The largest input, in new units.
    """
    exact = [int(factor) * ratio / (1 << node.shift) for factor in node.factor.numpy()]
    if output_type not in SUMS:
        # From this factor on an input of 1 is already clipped, so that a larger factor changes nothing.
        exact = [min(scale, Fraction(output_type.magnitude)) for scale in exact]
    top = max(exact)

    def is_fast(shift: int) -> bool:
        if output_type not in SUMS:
            return (output_type.magnitude + 1) << shift <= _EXACT_FLOAT
        return magnitude * rounded(top * (1 << shift)) + (1 << shift >> 1) <= SUM_LIMIT

    def anyhow(shift: int) -> bool:
        return True

    candidates = (
        _rounded(exact, dtype, allowed, output_type, magnitude)
        for allowed in (is_fast, anyhow)
        for dtype in (DType.U16, DType.U32)
    )
    return choose(candidates, TOLERANCE)


def _rounded(
    exact: Sequence[Fraction], dtype: DType, allowed: Callable[[int], bool], output_type: DType, magnitude: Fraction
) -> Candidate:
    """Scales as factors of a type, with the largest shift allowed."""
    top = max(exact)
    fitting = (s for s in range(MAX_SHIFT, -1, -1) if allowed(s) and rounded(top * (1 << s)) <= dtype.maximum)
    shift = next(fitting, 0)
    # A factor that is limited here only multiplies zeros; otherwise inference refuses the result.
    factors = [min(rounded(scale * (1 << shift)), dtype.maximum) for scale in exact]
    worst = 0.0
    for scale, factor in zip(exact, factors, strict=True):
        if scale:
            error = abs(float(factor / (scale * (1 << shift)) - 1))
            reach = 1.0 if output_type in SUMS else min(1.0, float(magnitude * scale / output_type.maximum))
            worst = max(worst, error * reach)
    return Candidate(np.array(factors, np.uint32), dtype, shift, worst)
