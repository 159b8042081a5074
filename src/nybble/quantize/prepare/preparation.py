"""Putting quantizers into a captured network: where values are rounded, and what operations add their steps to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from nybble.graph import DType, Preprocessing
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer, Method, WeightQuantizer
from nybble.quantize.fake.weighted import FoldedNorm, QuantizedLayer
from nybble.quantize.ir.elementwise import Function
from nybble.quantize.ir.float_network import (
    INPUT,
    ChannelDivision,
    FloatNetwork,
    Op,
    Rectifier,
    Slopes,
    Weighted,
)
from nybble.quantize.ir.fold import fold_norm, nonnegative
from nybble.quantize.prepare.choose import Choice
from nybble.quantize.prepare.joined import joined_values


class Preparation:
    """The fake-quantized network under construction, to which operations add their steps.

    Attributes
    ----------
    network : FloatNetwork
        Folded.
    readers : dict of str to list of Op
        By value.
    sums : dict of str to str
        By value, the step that makes its exact sums.
    codes : dict of str to (str, ActivationQuantizer)
        By value, the step that makes its codes, and their quantizer.
    owners : dict of str to QuantizedLayer
        By value, the layer whose units its sums have.
    depth : dict of str to int
        By value, the layers on the longest way to it.
    """

    def __init__(
        self,
        network: FloatNetwork,
        config: QuantizeConfig,
        preprocessing: Preprocessing | None,
        class_names: Sequence[str] | None,
    ) -> None:
        self.network = network
        self._choice = Choice(network, config)
        self._method = config.method
        self._preprocessing = preprocessing
        self._class_names = class_names
        self.readers = network.readers()
        self._unsigned = nonnegative(network)
        self._steps: list[Step] = []
        self._names: set[str] = {INPUT}
        self._input = self._input_quantizer()
        self.owners: dict[str, QuantizedLayer] = {}
        self.sums: dict[str, str] = {}
        self.codes: dict[str, tuple[str, ActivationQuantizer]] = {INPUT: (INPUT, self._input)}
        self.depth: dict[str, int] = {INPUT: 0}
        #: What concatenations bring together, by each of their values, and its quantizer once made.
        self._joined = joined_values(network)
        self._shared: dict[str, ActivationQuantizer] = {}

    def finish(self) -> QuantizedNetwork:
        """The network of all steps, once every operation has added its own."""
        if not self.network.results:
            self.finished(self.network.output)
        return QuantizedNetwork(
            self._steps,
            self._input,
            self.network.input_shape,
            self._choice.finished(),
            self._preprocessing,
            self._class_names,
            self.network.tail,
            self.network.outputs,
        )

    def finished(self, value: str) -> str:
        """The step that makes a value which the network returns: its exact sums where it has them, else its codes."""
        last = self.network[value]
        # What a ReLU6 clips, only a quantizer can; so does what has slopes.
        clips = isinstance(last, Rectifier) and last.maximum is not None
        if value not in self.sums or clips or isinstance(last, Slopes):
            return self.coded(value)[0]
        return self.sums[value]

    def _input_quantizer(self) -> ActivationQuantizer:
        given = self._preprocessing
        quantizer = ActivationQuantizer(INPUT, DType.S8 if given is None else given.input_type)
        if given is not None:
            quantizer.scale.fill_(given.scale_denominator / given.scale_numerator)
        return quantizer

    def is_exclusive(self, name: str) -> bool:
        """Whether an addition can take a value's sums as they are: nothing else reads them, nothing clips them."""
        if name not in self.sums or len(self.readers[name]) != 1:
            return False
        op = self.network[name]
        if not op.takes_shortcuts:
            return False
        return not isinstance(op, Rectifier) or (op.maximum is None and self.is_exclusive(op.inputs[0]))

    def on_codes(self, op: Op, module: nn.Module) -> None:
        """Add a step that takes codes and gives codes of the same quantizer."""
        source, quantizer = self.coded(op.inputs[0])
        self.codes[op.name] = (self.step(op.name, module, source), quantizer)

    def coded(self, value: str) -> tuple[str, ActivationQuantizer]:
        """The step that makes a value's codes, added when the first reader asks, and their quantizer."""
        if value not in self.codes:
            name = self.base(value)
            if value in self._joined:
                quantizer = self.shared_quantizer(value)
            else:
                quantizer = self.quantizer(name, [value], [value])
            self.codes[value] = (self.step(f"{name}.quantize", quantizer, self.sums[value]), quantizer)
        return self.codes[value]

    def shared_quantizer(self, value: str) -> ActivationQuantizer:
        """The quantizer of all values that concatenations bring together with this one."""
        joined = self._joined[value]
        if joined.name not in self._shared:
            values = joined.values or joined.results
            self._shared[joined.name] = self.quantizer(joined.name, values, joined.results)
        return self._shared[joined.name]

    def quantizer(
        self,
        name: str,
        values: Sequence[str],
        results: Sequence[str],
        make: Callable[[str, DType, Method, float | None], ActivationQuantizer] = ActivationQuantizer,
    ) -> ActivationQuantizer:
        """A quantizer of values that have one maximum; negative ones arrive if one of ``results`` has such.

        ``make`` takes its name, type, method and limit, as :class:`ActivationQuantizer` does.
        """
        chosen = self._choice.activation(name, values, any(result not in self._unsigned for result in results))
        op = self.network[values[0]]
        limit = op.maximum if isinstance(op, Rectifier) else self._reach(values)
        quantizer = make(name, chosen.dtype, self._method, limit)
        quantizer.shift = chosen.shift
        return quantizer

    def _reach(self, values: Sequence[str]) -> float | None:
        """Where the functions that alone read some values stop changing; ``None`` if anything else reads them."""
        found: list[float | None] = []
        for value in values:
            # Sums that are divided are rounded by another quantizer.
            readers = [reader for reader in self.readers[value] if not isinstance(reader, ChannelDivision)]
            found += [reader.reach if isinstance(reader, Function) else None for reader in readers]
        reaches = [reach for reach in found if reach is not None]
        return max(reaches) if reaches and len(reaches) == len(found) else None

    def base(self, value: str) -> str:
        """What an activation is called: after its layer, where its activation function alone reads that."""
        op = self.network[value]
        if not isinstance(op, Rectifier):
            return value
        source = op.inputs[0]
        if len(self.readers[source]) == 1:
            return source
        # Several activation functions of one layer have quantizers of their own, which calibration tells by name.
        names = [reader.name for reader in self.readers[source] if isinstance(reader, Rectifier)]
        place = names.index(value)
        return f"{source}.relu_{place + 1}" if place else f"{source}.relu"

    def add_layer(self, op: Weighted, kind: type[QuantizedLayer], **own: Any) -> None:
        """Add a layer: it reads codes and gives exact sums. ``own`` are further arguments of its class."""
        weight, bias = fold_norm(op)
        bits = self._choice.weight_bits(op)
        quantizer = WeightQuantizer(len(weight), bits, self._method)
        quantizer.set_range(weight.flatten(1).abs().amax(1))
        source, reads = self.coded(op.inputs[0])
        norm = None
        if op.norm is not None:
            norm = FoldedNorm(op.norm.gain, op.norm.offset, op.norm.variance, op.norm.eps)
        layer = self.owners[op.name] = kind(op.name, weight, bias, quantizer, reads, norm, **own)
        self.sums[op.name] = self.step(op.name, layer, source)

    def step(self, name: str, module: nn.Module, *inputs: str) -> str:
        """Add a step; its name, which is made different from all others."""
        count, free = 1, name
        while free in self._names:
            count += 1
            free = f"{name}_{count}"
        self._names.add(free)
        self._steps.append(Step(free, inputs, module))
        return free
