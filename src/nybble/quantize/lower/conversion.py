"""From a fake-quantized network to the integer network: codes, biases, factors and shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any

import numpy as np
import torch
from torch import nn

from nybble.graph import Add as AddNode
from nybble.graph import (
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    Node,
    Quantize,
    ReLU,
    Scale,
    Tensor,
    ValueType,
)
from nybble.graph.infer import infer, infer_input
from nybble.graph.rescale import TOLERANCE, Rescale, rescale
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake import operations
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedConv2d, QuantizedLayer

#: Of the step that sums are rounded to, the least that one unit of them may stand for. Finer channels, which have next
#: to no weights, are made coarser: below this their factors would lose precision.
_FINEST_UNIT = 2.0**-22
#: Room for a bias or a shortcut in 32-bit sums.
_ROOM = 2.0**29
#: Units of a sum of two activations in a step of the result: a power of two, so that the way back is exact.
ADDED_UNITS = 2.0**10


@dataclass(frozen=True)
class LayerRecord:
    """What became of a layer's constants.

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
    """What :func:`convert` decided.

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
        """Of rounding factors, over all rescalings, in steps of the result."""
        return max((record.error for record in self.rescales), default=0.0)


def convert(network: QuantizedNetwork, *, tolerance: float = TOLERANCE) -> tuple[Graph, ConversionReport]:
    """Write the integer network.

    Weights become the codes that the fake quantizers round to, biases whole units of the sums (s16 where a layer's
    fit, else s32), and multipliers factors with a shift.

    Parameters
    ----------
    network : QuantizedNetwork
        With ranges set. It is left as it is.
    tolerance : float
        Error that a shift of 16 may cost, in steps of the result: where it costs more, a larger shift is taken. What
        it does cost, and what the best shift would, is in the report.

    Returns
    -------
    Graph
        With the network's preprocessing and class names.
    ConversionReport

    Raises
    ------
    QuantizeError
        If the network holds NaN or infinity.
    GraphError
        If sums could pass 2**31 - 1, naming the layer.
    """
    with torch.no_grad():
        return _Converter(network, tolerance).run()


class _Converter:
    def __init__(self, network: QuantizedNetwork, tolerance: float) -> None:
        self._network = network
        self._tolerance = tolerance
        self._nodes: list[Node] = []
        self._types: dict[str, ValueType] = {}
        self.report = ConversionReport()
        self._values = self.report.values
        #: What a unit of each value stands for: (K,) for sums, a scalar array for codes.
        self._units: dict[str, Array] = {}
        self._finest = _finest_steps(network)
        self._shortcuts = _shortcut_sizes(network)

    def run(self) -> tuple[Graph, ConversionReport]:
        network = self._network
        quantizer = network.input_quantizer
        entry = Input(name=network.INPUT, dtype=quantizer.dtype, shape=tuple(network.input_shape))
        self._types[entry.name] = infer_input(entry)
        self._values[network.INPUT] = entry.name
        self._units[network.INPUT] = _number(quantizer.step())
        for step in network.steps:
            self._convert(step.module, step)
        output = self._logits()
        graph = Graph(
            [entry], self._nodes, [output], preprocessing=network.preprocessing, class_names=network.class_names
        )
        return graph, self.report

    @singledispatchmethod
    def _convert(self, module: nn.Module, step: Step) -> None:
        raise QuantizeError(f"{step.name}: {type(module).__name__} has no integer form")

    @_convert.register
    def _(self, module: QuantizedLayer, step: Step) -> None:
        unit = _number(module.weight_quantizer.step()) * _number(module.input_quantizer.step())
        bias = _number(module.bias)
        weight = _number(module.weight)
        if not np.all(np.isfinite(weight)) or not np.all(np.isfinite(bias)):
            raise QuantizeError(f"{step.name}: its weights or biases hold NaN or infinity; the training has diverged")
        codes = _number(module.weight_quantizer.codes(module.weight))
        floor = np.maximum(np.abs(bias), self._shortcuts.get(step.name, np.zeros(()))) / _ROOM
        floor = np.maximum(floor, self._finest.get(step.name, 0.0) * _FINEST_UNIT)
        coarse = unit < floor
        if np.any(coarse):
            unit = np.maximum(unit, floor)
            scale = unit / _number(module.input_quantizer.step())
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
        self._units[step.name] = unit
        weights = Tensor.from_array(module.weight_quantizer.dtype, codes.astype(np.int8))
        self._append(step, self._layer(module, step, weights, Tensor.from_array(dtype, biases)))

    def _layer(self, module: QuantizedLayer, step: Step, weight: Tensor, bias: Tensor) -> Callable[..., Node]:
        reads = self._type(step.inputs[0]).dtype

        def build(name: str, inputs: tuple[str, ...]) -> Node:
            if not isinstance(module, QuantizedConv2d):
                return Linear(name=name, inputs=inputs, input_type=reads, weight=weight, bias=bias)
            return Conv2d(
                name=name,
                inputs=inputs,
                input_type=reads,
                weight=weight,
                bias=bias,
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=module.groups,
            )

        return build

    @_convert.register
    def _(self, module: operations.ReLU, step: Step) -> None:
        # A maximum is where the quantizer behind it clips at the latest.
        self._units[step.name] = self._units[step.inputs[0]]
        reads = self._type(step.inputs[0]).dtype
        self._append(step, lambda name, inputs: ReLU(name=name, inputs=inputs, input_type=reads))

    @_convert.register
    def _(self, module: operations.Add, step: Step) -> None:
        main, shortcut = step.inputs
        step_of_result = self._finest.get(step.name)
        if self._is_code(main):
            smallest = min(float(self._units[main]), float(self._units[shortcut]))
            unit = np.full(self._type(main).shape[0], (step_of_result or smallest * 4) / ADDED_UNITS)
            left = self._rescaled(step, main, unit, np.ones_like(unit), f"{step.name}.left", None)
        else:
            unit = self._units[main]
            left = self._values[main]
        ratio = np.ones_like(unit) if module.ratio is None else _number(module.ratio)
        label = module.label or f"{step.name}.shortcut"
        right = self._rescaled(step, shortcut, unit, ratio, label, module.shift)
        self._units[step.name] = unit
        self._append(step, lambda name, _: AddNode(name=name, inputs=(left, right)))

    def _rescaled(self, step: Step, source: str, unit: Array, ratio: Array, label: str, shift: int | None) -> str:
        """Codes brought into the units of sums."""
        multiplier = self._units[source] * ratio / unit
        reads = self._type(source)
        result = self._finest.get(step.name)
        size = reads.magnitude * self._units[source] * np.abs(ratio)
        chosen = rescale(
            multiplier,
            size / result if result else reads.magnitude * multiplier,
            tolerance=self._tolerance,
            shift=shift,
            highest=16,
        )
        output = DType.S32 if reads.dtype.is_signed else DType.U31
        return self._quantize(label, self._values[source], output, chosen)

    @_convert.register
    def _(self, module: ActivationQuantizer, step: Step) -> None:
        (source,) = step.inputs
        reads = self._type(source)
        # Codes have one unit for all channels.
        multiplier = np.broadcast_to(self._units[source], reads.shape[:1]) / _number(module.step())
        reach = np.minimum(float(module.dtype.magnitude), reads.magnitude * multiplier)
        chosen = rescale(multiplier, reach, tolerance=self._tolerance, shift=module.shift)
        self._units[step.name] = _number(module.step())
        self._values[step.name] = self._quantize(step.name, self._values[source], module.dtype, chosen)

    def _quantize(self, name: str, source: str, output: DType, chosen: Rescale) -> str:
        reads = self._types[source].dtype
        node = Quantize(
            name=self._free(name),
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
        self._add(node)
        return node.name

    @_convert.register
    def _(self, module: operations.MaxPool2d, step: Step) -> None:
        self._pool(module, step, MaxPool2d, dilation=module.dilation)

    @_convert.register
    def _(self, module: operations.AvgPool2d, step: Step) -> None:
        if module.exact:
            self._window_sums(module, step)
        else:
            self._pool(module, step, AvgPool2d, count_include_pad=module.count_include_pad)

    def _window_sums(self, module: operations.AvgPool2d, step: Step) -> None:
        """A convolution that sums up each channel's windows: averages that nothing rounds."""
        reads = self._type(step.inputs[0])
        weight = np.ones((reads.shape[0], 1, *module.kernel_size), np.int8)
        count = module.kernel_size.rows * module.kernel_size.columns
        self._units[step.name] = np.full(len(weight), float(self._units[step.inputs[0]]) / count)
        self._append(
            step,
            lambda name, inputs: Conv2d(
                name=name,
                inputs=inputs,
                input_type=reads.dtype,
                weight=Tensor.from_array(DType.S4, weight),
                stride=module.stride,
                groups=len(weight),
            ),
        )

    @_convert.register
    def _(self, module: operations.Concat, step: Step) -> None:
        source = step.inputs[0]
        reads = self._type(source).dtype
        self._units[step.name] = self._units[source]
        self._append(step, lambda name, inputs: Concat(name=name, inputs=inputs, input_type=reads))

    def _pool(
        self,
        module: operations.MaxPool2d | operations.AvgPool2d,
        step: Step,
        kind: type[MaxPool2d] | type[AvgPool2d],
        **own: Any,
    ) -> None:
        """A pool, which keeps the type and the unit of what it reads."""
        reads = self._type(step.inputs[0]).dtype
        self._units[step.name] = self._units[step.inputs[0]]
        self._append(
            step,
            lambda name, inputs: kind(
                name=name,
                inputs=inputs,
                input_type=reads,
                kernel_size=module.kernel_size,
                stride=module.stride,
                padding=module.padding,
                ceil_mode=module.ceil_mode,
                **own,
            ),
        )

    @_convert.register
    def _(self, module: operations.Pad, step: Step) -> None:
        """A convolution that copies codes, and a Quantize that takes its sums as they are."""
        (source,) = step.inputs
        reads = self._type(source)
        channels = reads.shape[0]
        before, after = module.channels
        if before or after:
            weight, groups = np.zeros((before + channels + after, channels, 1, 1), np.int8), 1
            weight[before : before + channels, :, 0, 0] = np.eye(channels, dtype=np.int8)
        else:
            weight, groups = np.ones((channels, 1, 1, 1), np.int8), channels
        copy = Conv2d(
            name=self._free(f"{step.name}.copy"),
            inputs=(self._values[source],),
            input_type=reads.dtype,
            weight=Tensor.from_array(DType.S4, weight),
            stride=module.stride,
            padding=module.padding,
            groups=groups,
        )
        self._add(copy)
        self._units[step.name] = self._units[source]
        one = Tensor.from_array(DType.U16, np.ones(len(weight), np.int64))
        self._values[step.name] = self._quantize(step.name, copy.name, reads.dtype, Rescale(one, 0, 0.0, 0, 0.0))

    def _logits(self) -> str:
        """The nodes behind the last step, and the output's name."""
        output = self._network.output
        source, unit = self._values[output], self._units[output]
        if self._is_code(output):
            # The engine's logits come from sums: these are the codes themselves.
            count = int(np.prod(self._types[source].shape))
            reads = self._types[source].dtype
            copy = Linear(
                name=self._free(f"{output}.copy"),
                inputs=(source,),
                input_type=reads,
                weight=Tensor.from_array(DType.S4, np.eye(count, dtype=np.int8)),
            )
            self._add(copy)
            source, unit = copy.name, np.full(count, float(unit))
        scale = Scale(
            name=self._free("scale"),
            inputs=(source,),
            out_scale=Tensor.from_array(DType.F32, (1.0 / unit).astype(np.float32)),
        )
        self._add(scale)
        return scale.name

    def _is_code(self, value: str) -> bool:
        return self._units[value].ndim == 0

    def _type(self, value: str) -> ValueType:
        return self._types[self._values[value]]

    def _append(self, step: Step, build: Callable[[str, tuple[str, ...]], Node]) -> None:
        node = build(self._free(step.name), tuple(self._values[name] for name in step.inputs))
        self._add(node)
        self._values[step.name] = node.name

    def _add(self, node: Node) -> None:
        self._types[node.name] = infer(node, [self._types[name] for name in node.inputs])
        self._nodes.append(node)

    def _free(self, name: str) -> str:
        # The names of files in a model directory.
        name = "".join(char if char.isalnum() and char.isascii() else "_" for char in name)
        count, free = 1, name
        while free in self._types or free == "model":
            count += 1
            free = f"{name}_{count}"
        return free


def _number(tensor: torch.Tensor) -> Array:
    values: Array = tensor.detach().cpu().double().numpy()
    return values


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
        elif isinstance(step.module, operations.ReLU | operations.Add):
            found = finest.get(step.name)
        else:
            continue
        if found is not None:
            # An addition's first input is the one whose units it keeps.
            source = step.inputs[0]
            finest[source] = min(found, finest.get(source, found))
    return finest


def _shortcut_sizes(network: QuantizedNetwork) -> dict[str, Array]:
    """By layer, the largest shortcut that its sums have to take in: (K,) or a scalar array."""
    quantizers = {network.INPUT: network.input_quantizer}
    sizes: dict[str, Array] = {}
    for step in network.steps:
        if isinstance(step.module, ActivationQuantizer):
            quantizers[step.name] = step.module
        elif step.inputs[0] in quantizers and not isinstance(step.module, QuantizedLayer | operations.Add):
            quantizers[step.name] = quantizers[step.inputs[0]]
    for step in reversed(network.steps):
        if isinstance(step.module, operations.Add):
            quantizer = quantizers[step.inputs[1]]
            ratio = np.ones(()) if step.module.ratio is None else np.abs(_number(step.module.ratio))
            own = _number(quantizer.step()) * quantizer.dtype.magnitude * ratio
            sizes[step.inputs[0]] = own + sizes.get(step.name, np.zeros(()))
        elif isinstance(step.module, operations.ReLU) and step.name in sizes:
            sizes[step.inputs[0]] = sizes[step.name]
    return sizes
