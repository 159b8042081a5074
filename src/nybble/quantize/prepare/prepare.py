"""Putting quantizers into a captured network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nybble.graph import DType, Preprocessing
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.operations import Add, AvgPool2d, MaxPool2d, ReLU
from nybble.quantize.fake.operations import Concat as ConcatStep
from nybble.quantize.fake.operations import Pad as PadStep
from nybble.quantize.fake.quantizers import ActivationQuantizer, WeightQuantizer
from nybble.quantize.fake.weighted import FoldedNorm, QuantizedConv2d, QuantizedLayer, QuantizedLinear
from nybble.quantize.ir.float_network import (
    INPUT,
    AvgPool,
    Concat,
    Conv,
    FloatNetwork,
    MaxPool,
    Op,
    Pad,
    Rectifier,
    Sum,
    Weighted,
)
from nybble.quantize.ir.fold import fold, fold_norm, nonnegative
from nybble.quantize.prepare.choose import Choice
from nybble.quantize.prepare.joined import Joined, joined_values
from nybble.quantize.sources.pytorch.capture import capture


def prepare(
    module: nn.Module,
    example_input_shape: tuple[int, int, int],
    config: QuantizeConfig | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    *,
    output: str | int | None = None,
) -> QuantizedNetwork:
    """Capture a network, fold batch norm into it and put quantizers where the integer network rounds.

    Weight ranges are set to each channel's largest magnitude; those of activations wait for calibration.

    Parameters
    ----------
    module : nn.Module
        A trained classifier; it is left as it was, its weights are copied.
    example_input_shape : tuple of int
        (C, H, W) of the images.
    config : QuantizeConfig, optional
        By default ``w4a4``. The filled-in one is the result's ``config``.
    preprocessing : Preprocessing, optional
        How photos become the input. It travels with the network and fixes the input's range.
    class_names : sequence of str, optional
    output : str or int, optional
        Which output of the module the logits are, as :func:`~nybble.quantize.sources.pytorch.capture.capture` takes it.

    Returns
    -------
    QuantizedNetwork
        In mode ``float``, where it answers as ``module`` does in evaluation mode.

    Raises
    ------
    CaptureError
        Naming the source line of what cannot be captured.
    QuantizeError
        If the configuration names what is not there, or preprocessing makes images of another shape.
    """
    rows_and_columns = tuple(example_input_shape[1:])
    if preprocessing is not None and (len(preprocessing.mean), *preprocessing.crop) != tuple(example_input_shape):
        raise QuantizeError(
            f"preprocessing makes images of {len(preprocessing.mean)} channels and {preprocessing.crop} pixels, "
            f"but the network is prepared for {example_input_shape[0]} and {rows_and_columns}"
        )
    network = fold(capture(module, example_input_shape, output=output))
    return prepare_captured(network, config or QuantizeConfig(), preprocessing, class_names)


def prepare_captured(
    network: FloatNetwork,
    config: QuantizeConfig,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
) -> QuantizedNetwork:
    """As :func:`prepare`, for a network that is captured and folded already."""
    return _Preparation(network, config, preprocessing, class_names).run()


class _Preparation:
    def __init__(
        self,
        network: FloatNetwork,
        config: QuantizeConfig,
        preprocessing: Preprocessing | None,
        class_names: Sequence[str] | None,
    ) -> None:
        self._network = network
        self._choice = Choice(network, config)
        self._method = config.method
        self._preprocessing = preprocessing
        self._class_names = class_names
        self._readers = network.readers()
        self._unsigned = nonnegative(network)
        self._steps: list[Step] = []
        self._names: set[str] = {INPUT}
        self._input = self._input_quantizer()
        #: The layer whose units a value's sums have.
        self._owners: dict[str, QuantizedLayer] = {}
        #: The step that makes a value's exact sums, and the one that makes its codes, with their quantizer.
        self._sums: dict[str, str] = {}
        self._codes: dict[str, tuple[str, ActivationQuantizer]] = {INPUT: (INPUT, self._input)}
        self._depth: dict[str, int] = {INPUT: 0}
        #: What concatenations bring together, by each of their values, and its quantizer once made.
        self._joined = joined_values(network)
        self._shared: dict[str, ActivationQuantizer] = {}

    def run(self) -> QuantizedNetwork:
        for op in self._network:
            self._depth[op.name] = max(self._depth[name] for name in op.inputs) + isinstance(op, Weighted)
            self._add(op)
        output = self._network.output
        last = self._network[output]
        # What a ReLU6 clips, only a quantizer can.
        if output not in self._sums or (isinstance(last, Rectifier) and last.maximum is not None):
            self._coded(output)
        return QuantizedNetwork(
            self._steps,
            self._input,
            self._network.input_shape,
            self._choice.finished(),
            self._preprocessing,
            self._class_names,
        )

    def _input_quantizer(self) -> ActivationQuantizer:
        given = self._preprocessing
        quantizer = ActivationQuantizer(INPUT, DType.S8 if given is None else given.input_type)
        if given is not None:
            quantizer.scale.fill_(given.scale_denominator / given.scale_numerator)
        return quantizer

    def _add(self, op: Op) -> None:
        if isinstance(op, Weighted):
            layer = self._owners[op.name] = self._layer(op)
            self._sums[op.name] = self._step(op.name, layer, self._coded(op.inputs[0])[0])
        elif isinstance(op, Rectifier):
            source = op.inputs[0]
            name = f"{self._base(source)}.relu"
            self._sums[op.name] = self._step(name, ReLU(op.maximum), self._sums[source])
            if source in self._owners:
                self._owners[op.name] = self._owners[source]
        elif isinstance(op, Sum):
            self._add_sum(op)
        elif isinstance(op, MaxPool):
            pool = MaxPool2d(op.kernel_size, op.stride, op.padding, op.dilation, op.ceil_mode)
            self._on_codes(op, pool)
        elif isinstance(op, AvgPool):
            self._add_average(op)
        elif isinstance(op, Concat):
            self._add_concat(op)
        elif isinstance(op, Pad):
            self._on_codes(op, PadStep(op.stride, op.padding, op.channels))
        else:
            raise QuantizeError(f"{op.place or op.name}: {type(op).__name__} has no quantized form")

    def _add_average(self, op: AvgPool) -> None:
        source, quantizer = self._coded(op.inputs[0])
        exact = op.name == self._network.output and not any(op.padding) and not op.ceil_mode
        pool = AvgPool2d(
            quantizer, op.kernel_size, op.stride, op.padding, op.ceil_mode, op.count_include_pad, exact=exact
        )
        step = self._step(op.name, pool, source)
        if exact:
            self._sums[op.name] = step
        else:
            self._codes[op.name] = (step, quantizer)

    def _add_concat(self, op: Concat) -> None:
        coded = [self._coded(name) for name in op.inputs]
        quantizer = coded[0][1]
        if any(other is not quantizer for _, other in coded):
            quantizer = self._shared_quantizer(self._joined[op.name])
        # Codes of another quantizer, as of the network's input or of a ReLU6 among others, are rounded once more.
        steps = [step if own is quantizer else self._step(f"{op.name}.rescale", quantizer, step) for step, own in coded]
        self._codes[op.name] = (self._step(op.name, ConcatStep(), *steps), quantizer)

    def _add_sum(self, op: Sum) -> None:
        left, right = op.inputs
        if left == right:
            raise QuantizeError(f"{op.place or op.name}: a value cannot be added to itself; double a layer's weights")
        # The longer way is the main one; what it sums up takes the other in.
        by_depth = sorted(op.inputs, key=lambda name: -self._depth[name])
        main = next((name for name in by_depth if self._is_exclusive(name)), None)
        if main is None:
            inputs = [self._coded(name)[0] for name in by_depth]
        else:
            other = right if main == left else left
            shortcut = self._coded(other)[0]
            inputs = [self._sums[main], shortcut]
            if main in self._owners:
                self._owners[op.name] = self._owners[main]
        self._sums[op.name] = self._step(op.name, Add(self._owners.get(op.name)), *inputs)

    def _is_exclusive(self, name: str) -> bool:
        """Whether an addition can take a value's sums as they are: nothing else reads them, nothing clips them."""
        if name not in self._sums or len(self._readers[name]) != 1:
            return False
        op = self._network[name]
        return not isinstance(op, Rectifier) or (op.maximum is None and self._is_exclusive(op.inputs[0]))

    def _on_codes(self, op: Op, module: nn.Module) -> None:
        source, quantizer = self._coded(op.inputs[0])
        self._codes[op.name] = (self._step(op.name, module, source), quantizer)

    def _coded(self, value: str) -> tuple[str, ActivationQuantizer]:
        """The step that makes a value's codes, added when the first reader asks, and their quantizer."""
        if value not in self._codes:
            name = self._base(value)
            if value in self._joined:
                quantizer = self._shared_quantizer(self._joined[value])
            else:
                quantizer = self._quantizer(name, [value], [value])
            self._codes[value] = (self._step(f"{name}.quantize", quantizer, self._sums[value]), quantizer)
        return self._codes[value]

    def _shared_quantizer(self, joined: Joined) -> ActivationQuantizer:
        if joined.name not in self._shared:
            values = joined.values or joined.results
            self._shared[joined.name] = self._quantizer(joined.name, values, joined.results)
        return self._shared[joined.name]

    def _quantizer(self, name: str, values: Sequence[str], results: Sequence[str]) -> ActivationQuantizer:
        """A quantizer of values that have one maximum; negative ones arrive if one of ``results`` has such."""
        chosen = self._choice.activation(name, values, any(result not in self._unsigned for result in results))
        op = self._network[values[0]]
        limit = op.maximum if isinstance(op, Rectifier) else None
        quantizer = ActivationQuantizer(name, chosen.dtype, self._method, limit)
        quantizer.shift = chosen.shift
        return quantizer

    def _base(self, value: str) -> str:
        """What an activation is called: after its layer, where its activation function alone reads that."""
        op = self._network[value]
        if not isinstance(op, Rectifier):
            return value
        source = op.inputs[0]
        return source if len(self._readers[source]) == 1 else f"{source}.relu"

    def _layer(self, op: Weighted) -> QuantizedLayer:
        weight, bias = fold_norm(op)
        bits = self._choice.weight_bits(op)
        quantizer = WeightQuantizer(len(weight), bits, self._method)
        quantizer.set_range(weight.flatten(1).abs().amax(1))
        reads = self._coded(op.inputs[0])[1]
        norm = None
        if op.norm is not None:
            norm = FoldedNorm(op.norm.gain, op.norm.offset, op.norm.variance, op.norm.eps)
        if not isinstance(op, Conv):
            return QuantizedLinear(op.name, weight, bias, quantizer, reads, norm)
        return QuantizedConv2d(
            op.name,
            weight,
            bias,
            quantizer,
            reads,
            norm,
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=op.groups,
        )

    def _step(self, name: str, module: nn.Module, *inputs: str) -> str:
        count, free = 1, name
        while free in self._names:
            count += 1
            free = f"{name}_{count}"
        self._names.add(free)
        self._steps.append(Step(free, inputs, module))
        return free
