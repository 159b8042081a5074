"""Collects the nodes of the integer network: operations add codes, biases, factors and shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nybble.graph import Conv2d, DType, Graph, Input, Linear, Node, Quantize, Scale, Tensor, ValueType
from nybble.graph.infer import infer, infer_input
from nybble.graph.rescale import Rescale, rescale
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer, number
from nybble.quantize.fake.weighted import QuantizedLayer

#: Least unit of sums, as a share of the step that they are rounded to. Finer channels, whose weights are tiny, are made
#: coarser, since their factors would lose precision.
_FINEST_UNIT = 2.0**-22
#: Room for a bias or a shortcut in 32-bit sums.
_ROOM = 2.0**29


@dataclass(frozen=True)
class LayerRecord:
    """The constants of a layer in the integer network.

    Attributes
    ----------
    name : str
    weight, bias : DType
    coarser : int
        Channels whose weights were rounded to coarser steps than the fake-quantized network has, because those would
        not have fitted 32 bits beside the bias or the shortcut.
    """

    name: str
    weight: DType
    bias: DType
    coarser: int


@dataclass(frozen=True)
class RescaleRecord:
    """A Quantize node: its name, types and shift, and the error of rounding its factors, as :class:`Rescale` has it."""

    name: str
    input: DType
    output: DType
    factor: DType
    shift: int
    error: float
    best_shift: int
    best_error: float


@dataclass
class ConversionReport:
    """The decisions of :func:`~nybble.quantize.lower.convert.convert`.

    Attributes
    ----------
    layers : list of LayerRecord
    rescales : list of RescaleRecord
    values : dict of str to str
        The graph's value for each step of the network, by the step's name; ``input`` included.
    """

    layers: list[LayerRecord] = field(default_factory=list)
    rescales: list[RescaleRecord] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def largest_error(self) -> float:
        """The largest error of rounding factors, over all rescalings, in steps of the result."""
        return max((record.error for record in self.rescales), default=0.0)


class Conversion:
    """The integer network under construction, to which operations add their nodes.

    Attributes
    ----------
    values : dict of str to str
        The graph's value for each step, by the step's name.
    types : dict of str to ValueType
        By value of the graph.
    units : dict of str to ndarray
        The real value of one unit of each step's value: (K,) for sums, a scalar array for codes.
    finest : dict of str to float
        By step that makes sums, the finest step that they are rounded to.
    shortcuts : dict of str to ndarray
        By layer, the largest shortcut that is added to its sums.
    tolerance : float
        Error, in steps of a result, up to which the preferred shift is taken.
    deferred : dict of str to callable
        By step whose value only becomes integers together with the rounding behind it: what adds the node, from the
        quantizer and its step.
    """

    def __init__(self, network: QuantizedNetwork, tolerance: float, shortcuts: dict[str, Array]) -> None:
        self._network = network
        self.tolerance = tolerance
        self._nodes: list[Node] = []
        self.types: dict[str, ValueType] = {}
        self.report = ConversionReport()
        self.values = self.report.values
        self.units: dict[str, Array] = {}
        self.deferred: dict[str, Callable[[ActivationQuantizer, Step], None]] = {}
        self.finest = _finest_steps(network)
        self.shortcuts = shortcuts
        quantizer = network.input_quantizer
        self._entry = entry = Input(name=network.INPUT, dtype=quantizer.dtype, shape=tuple(network.input_shape))
        self.types[entry.name] = infer_input(entry)
        self.values[network.INPUT] = entry.name
        self.units[network.INPUT] = number(quantizer.step())

    def finish(self) -> Graph:
        """The graph of all nodes, once the operation of every step has added its own."""
        network = self._network
        outputs = self._results() if network.outputs else [self._logits()]
        return Graph(
            [self._entry],
            self._nodes,
            outputs,
            preprocessing=network.preprocessing,
            class_names=network.class_names,
            task=network.task,
        )

    def _results(self) -> list[str]:
        """The nodes behind the results of a network that is not a classifier, and the names of its outputs."""
        made = {label: self.real(step, label) for label, step in self._network.result_steps.items()}
        for node in self._network.tail:
            name = self.free(node.name)
            self.add(replace(node, name=name, inputs=tuple(made[label] for label in node.inputs)))
            made[node.name] = name
        return [made[label] for label in self._network.outputs]

    def real(self, step: str, label: str) -> str:
        """The node that converts a step's sums or codes to real numbers."""
        source, unit = self.values[step], self.units[step]
        if self.is_code(step):
            channels = self.types[source].shape[0]
            ones = Rescale(Tensor.from_array(DType.U16, np.ones(channels, np.int64)), 0, 0.0, 0, 0.0)
            target = DType.S32 if self.types[source].dtype.is_signed else DType.U31
            source, unit = self.quantize(f"{label}.sums", source, target, ones), np.full(channels, float(unit))
        scales = Tensor.from_array(DType.F32, (1.0 / unit).astype(np.float32))
        node = Scale(name=self.free(label), inputs=(source,), out_scale=scales)
        self.add(node)
        return node.name

    def append_layer(self, module: QuantizedLayer, step: Step, kind: type[Conv2d | Linear], **own: Any) -> None:
        """Add the node of a layer, with the codes of its weights and its bias in units of the sums.

        ``own`` are further attributes of the node.
        """
        unit = number(module.weight_quantizer.step()) * number(module.input_quantizer.step())
        bias = number(module.bias)
        weight = number(module.weight)
        if not np.all(np.isfinite(weight)) or not np.all(np.isfinite(bias)):
            raise QuantizeError(f"{step.name}: its weights or biases hold NaN or infinity; the training has diverged")
        codes = number(module.weight_quantizer.codes(module.weight))
        floor = np.maximum(np.abs(bias), self.shortcuts.get(step.name, np.zeros(()))) / _ROOM
        floor = np.maximum(floor, self.finest.get(step.name, 0.0) * _FINEST_UNIT)
        coarse = unit < floor
        if np.any(coarse):
            unit = np.maximum(unit, floor)
            scale = unit / number(module.input_quantizer.step())
            shape = (-1, *[1] * (weight.ndim - 1))
            coarser = np.clip(
                _round(weight / scale.reshape(shape)), module.weight_quantizer.low, module.weight_quantizer.high
            )
            codes = np.where(coarse.reshape(shape), coarser, codes)
        biases = _round(bias / unit).astype(np.int64)
        small = DType.S16.minimum <= biases.min() and biases.max() <= DType.S16.maximum
        dtype = DType.S16 if small else DType.S32
        self.report.layers.append(
            LayerRecord(step.name, module.weight_quantizer.dtype, dtype, int(np.count_nonzero(coarse)))
        )
        self.units[step.name] = unit
        weights = Tensor.from_array(module.weight_quantizer.dtype, codes.astype(np.int8))
        self.append(
            step,
            kind,
            input_type=self.type_of(step.inputs[0]).dtype,
            weight=weights,
            bias=Tensor.from_array(dtype, biases),
            **own,
        )

    def append_pool(self, module: Any, step: Step, kind: type[Node], **own: Any) -> None:
        """Add the node of a pool, which keeps the type and the unit of what it reads."""
        self.units[step.name] = self.units[step.inputs[0]]
        self.append(
            step,
            kind,
            input_type=self.type_of(step.inputs[0]).dtype,
            kernel_size=module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            ceil_mode=module.ceil_mode,
            **own,
        )

    def rescaled(self, step: Step, source: str, unit: Array, ratio: Array, label: str, shift: int | None) -> str:
        """Codes brought into the units of sums: the name of the node that does it."""
        multiplier = self.units[source] * ratio / unit
        reads = self.type_of(source)
        result = self.finest.get(step.name)
        size = reads.magnitude * self.units[source] * np.abs(ratio)
        chosen = rescale(
            multiplier,
            size / result if result else reads.magnitude * multiplier,
            tolerance=self.tolerance,
            shift=shift,
            highest=16,
        )
        output = DType.S32 if reads.dtype.is_signed else DType.U31
        return self.quantize(label, self.values[source], output, chosen)

    def quantize(self, name: str, source: str, output: DType, chosen: Rescale) -> str:
        """Add a Quantize that reads a value of the graph; its name."""
        reads = self.types[source].dtype
        node = Quantize(
            name=self.free(name),
            inputs=(source,),
            input_type=reads,
            output_type=output,
            factor=chosen.factor,
            shift=chosen.shift,
        )
        self.report.rescales.append(
            RescaleRecord(
                node.name,
                reads,
                output,
                chosen.factor.dtype,
                chosen.shift,
                chosen.error,
                chosen.best_shift,
                chosen.best_error,
            )
        )
        self.add(node)
        return node.name

    def _logits(self) -> str:
        """The nodes behind the last step, and the output's name."""
        output = self._network.output
        source, unit = self.values[output], self.units[output]
        if self.is_code(output) and np.prod(self.types[source].shape[1:]) > 1:
            return self.real(output, "scale")
        if self.is_code(output):
            # The engine's logits come from sums: these are the codes themselves.
            count = int(np.prod(self.types[source].shape))
            reads = self.types[source].dtype
            copy = Linear(
                name=self.free(f"{output}.copy"),
                inputs=(source,),
                input_type=reads,
                weight=Tensor.from_array(DType.S4, np.eye(count, dtype=np.int8)),
            )
            self.add(copy)
            source, unit = copy.name, np.full(count, float(unit))
        scale = Scale(
            name=self.free("scale"),
            inputs=(source,),
            out_scale=Tensor.from_array(DType.F32, (1.0 / unit).astype(np.float32)),
        )
        self.add(scale)
        return scale.name

    def is_code(self, value: str) -> bool:
        """Whether a step gives codes, not sums."""
        return self.units[value].ndim == 0

    def type_of(self, value: str) -> ValueType:
        """Type, shape and largest magnitude of a step's value."""
        return self.types[self.values[value]]

    def append(self, step: Step, kind: type[Node], inputs: tuple[str, ...] | None = None, **own: Any) -> None:
        """Add the node that makes a step's value, named after it.

        Without ``inputs`` it reads the values of what the step reads; ``own`` are its attributes.
        """
        read = tuple(self.values[name] for name in step.inputs) if inputs is None else inputs
        node = kind(name=self.free(step.name), inputs=read, **own)
        self.add(node)
        self.values[step.name] = node.name

    def add(self, node: Node) -> None:
        """Add a node. Raises GraphError if it does not fit what it reads."""
        self.types[node.name] = infer(node, [self.types[name] for name in node.inputs])
        self._nodes.append(node)

    def free(self, name: str) -> str:
        """A name that no node has, fit for a file of the model directory."""
        name = plain_name(name)
        count, free = 1, name
        while free in self.types or free == "model":
            count += 1
            free = f"{name}_{count}"
        return free


def plain_name(name: str) -> str:
    """A name in letters, digits and ``_`` of ASCII, as nodes of the graph have it."""
    return "".join(char if char.isalnum() and char.isascii() else "_" for char in name)


def _round(values: Array) -> Array:
    """To the nearest integer, ties away from zero."""
    rounded: Array = np.trunc(values + np.copysign(0.5, values))
    return rounded


def _finest_steps(network: QuantizedNetwork) -> dict[str, float]:
    """By value that is summed up, the finest step that it is rounded to; values that become logits are left out."""
    finest: dict[str, float] = {}
    for step in reversed(network.steps):
        if isinstance(step.module, ActivationQuantizer):
            found: float | None = float(step.module.step())
        elif isinstance(step.module, FakeOperation) and step.module.keeps_unit:
            found = finest.get(step.name)
        else:
            continue
        if found is not None:
            # An addition's first input is the one whose units it keeps.
            source = step.inputs[0]
            finest[source] = min(found, finest.get(source, found))
    return finest
