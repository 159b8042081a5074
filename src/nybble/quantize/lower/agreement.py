"""Compares the integer network with the fake-quantized one, and both with the float one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nybble.graph import Graph, Preprocessing
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork, Step
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.lower.conversion import ConversionReport
from nybble.reference import interpret


@dataclass
class ValueAgreement:
    """One activation, over all images.

    Attributes
    ----------
    name : str
        Of its quantizer.
    count : int
        Values compared.
    off : int
        Values whose codes differ although the layer was given identical integer inputs.
    largest : int
        The largest difference, in steps.
    fake_sqnr, integer_sqnr : float
        Signal-to-noise ratio in dB of the whole network's values against the float network's.
    """

    name: str
    count: int = 0
    off: int = 0
    largest: int = 0
    fake_sqnr: float = math.inf
    integer_sqnr: float = math.inf

    @property
    def off_rate(self) -> float:
        """Share of values that differ."""
        return self.off / self.count if self.count else 0.0


@dataclass(frozen=True)
class Flip:
    """An image that the two networks answer differently.

    Attributes
    ----------
    image : int
        Its index among those compared.
    fake, integer : int
        The classes.
    margin : float
        The fake-quantized network's logit of its class minus its logit of the integer network's class.
    """

    image: int
    fake: int
    integer: int
    margin: float


@dataclass
class Agreement:
    """The result of :func:`compare`. ``logit_error`` is the largest difference of logits, as a share of the largest."""

    values: list[ValueAgreement] = field(default_factory=list)
    images: int = 0
    flips: list[Flip] = field(default_factory=list)
    logit_error: float = 0.0

    @property
    def same_top1(self) -> float:
        """Share of images that both networks put into the same class."""
        return 1.0 - len(self.flips) / self.images if self.images else 1.0

    @property
    def off_rate(self) -> float:
        """Share of all values that differ by a step, given identical inputs."""
        count = sum(value.count for value in self.values)
        return sum(value.off for value in self.values) / count if count else 0.0

    @property
    def largest(self) -> int:
        """The largest difference of a code, given identical inputs, in steps."""
        return max((value.largest for value in self.values), default=0)


class _Noise:
    """Sums of squares of a signal and of the noise on it."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0

    def add(self, signal: Tensor, other: Tensor) -> None:
        self._signal += float(signal.double().square().sum())
        self._noise += float((signal - other).double().square().sum())

    def decibels(self) -> float:
        if self._noise == 0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf


def compare(
    network: QuantizedNetwork,
    graph: Graph,
    report: ConversionReport,
    batches: Iterable[Tensor],
    *,
    engine: Callable[[Array], Array] | None = None,
) -> Agreement:
    """Run the float, the fake-quantized and the integer network on the same images.

    Parameters
    ----------
    network : QuantizedNetwork
    graph : Graph
        What :func:`nybble.quantize.lower.convert.convert` made of it, with its ``report``.
    batches : iterable of Tensor
        (N, C, H, W) float32 normalised images.
    engine : callable, optional
        Takes such images as an array and returns logits (a :class:`nybble.Engine` of the graph): the classes compared
        are then its. By default the integer reference's. The graph needs preprocessing for it.

    Returns
    -------
    Agreement
    """
    before, training = network.mode, network.training
    network.eval()
    comparison = _Comparison(network, graph, report, engine)
    try:
        with torch.no_grad():
            for batch in batches:
                comparison.add(batch)
    finally:
        network.set_mode(before)
        network.train(training)
    return comparison.finished()


class _Comparison:
    def __init__(
        self,
        network: QuantizedNetwork,
        graph: Graph,
        report: ConversionReport,
        engine: Callable[[Array], Array] | None,
    ) -> None:
        self._network = network
        self._graph = graph
        self._names = report.values
        self._engine = engine
        self._quantizers = [step for step in network.steps if isinstance(step.module, ActivationQuantizer)]
        names = [_quantizer(step).name for step in self._quantizers]
        self._found = {
            # A quantizer that makes several values is told from itself by the step.
            step.name: ValueAgreement(name if names.count(name) == 1 else step.name.removesuffix(".quantize"))
            for name, step in zip(names, self._quantizers, strict=True)
        }
        self._fake_noise = {step.name: _Noise() for step in self._quantizers}
        self._integer_noise = {step.name: _Noise() for step in self._quantizers}
        self._result = Agreement(values=list(self._found.values()))

    def add(self, batch: Tensor) -> None:
        network = self._network
        names = [step.name for step in self._quantizers]
        network.set_mode("float")
        exact = network.run({network.INPUT: batch}, keep=names)
        network.set_mode("quantize")
        images = network.input_quantizer(batch)
        fake = network.run({network.INPUT: images}, keep=names)
        codes = input_codes(network, batch)
        kept = [self._names[name] for name in names]
        integer = interpret(self._graph, codes, keep=kept)
        for step in self._quantizers:
            held = torch.from_numpy(integer[self._names[step.name]].astype(np.float32))
            self._fake_noise[step.name].add(exact[step.name], fake[step.name])
            self._integer_noise[step.name].add(exact[step.name], held * _quantizer(step).step())
        self._given_identical_inputs(codes, integer)
        if network.outputs:
            self._result.images += len(batch)
            return
        logits = integer[self._graph.outputs[0]] if self._engine is None else self._engine(batch.numpy())
        self._answers(fake[network.output].flatten(1).numpy(), logits.reshape(len(batch), -1))

    def _given_identical_inputs(self, codes: Array, integer: dict[str, Array]) -> None:
        network = self._network
        live = {network.INPUT: torch.from_numpy(codes.astype(np.float32)) * network.input_quantizer.step()}
        last = {name: step.name for step in network.steps for name in step.inputs}
        for step in network.steps:
            inputs = [live[name] for name in step.inputs]
            if isinstance(step.module, ActivationQuantizer):
                expected = torch.from_numpy(integer[self._names[step.name]].astype(np.float32))
                difference = (step.module.codes(inputs[0]) - expected).abs()
                found = self._found[step.name]
                found.count += difference.numel()
                found.off += int((difference > 0).sum())
                found.largest = max(found.largest, int(difference.max()))
                # What follows starts from the integer network's codes.
                live[step.name] = expected * step.module.step()
            else:
                live[step.name] = step.module(*inputs)
            for name in step.inputs:
                if last[name] == step.name:
                    live.pop(name, None)

    def _answers(self, fake: Array, integer: Array) -> None:
        scale = max(float(np.abs(fake).max()), 1e-30)
        self._result.logit_error = max(self._result.logit_error, float(np.abs(fake - integer).max()) / scale)
        for row, (left, right) in enumerate(zip(fake, integer, strict=True)):
            ours, theirs = int(left.argmax()), int(right.argmax())
            if ours != theirs:
                margin = float(left[ours] - left[theirs])
                self._result.flips.append(Flip(self._result.images + row, ours, theirs, margin))
        self._result.images += len(fake)

    def finished(self) -> Agreement:
        for name, found in self._found.items():
            found.fake_sqnr = self._fake_noise[name].decibels()
            found.integer_sqnr = self._integer_noise[name].decibels()
        return self._result


def input_codes(network: QuantizedNetwork, batch: Tensor) -> Array:
    """The integers that normalised images (N, C, H, W) become, as the network's preprocessing makes them."""
    given: Preprocessing | None = network.preprocessing
    if given is not None:
        return given.quantize(batch.numpy())
    codes: Array = network.input_quantizer.codes(batch).numpy().astype(network.input_quantizer.dtype.storage)
    return codes


def _quantizer(step: Step) -> ActivationQuantizer:
    if not isinstance(step.module, ActivationQuantizer):
        raise QuantizeError(f"{step.name} is not an activation")
    return step.module
