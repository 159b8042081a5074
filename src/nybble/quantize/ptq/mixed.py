"""Mixed 4/8 bits: which groups of layers get 4 bits, within a budget of accuracy or of time.

Noise of different layers adds up in the logits (Zhou et al. 2018; Dong et al. 2019 argue similarly for curvature). So
each group has a price, its own noise, and a gain, the engine's time. The choice is then a knapsack problem, which is
solved exactly; its prediction is verified on the images.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nybble.engine import Engine
from nybble.engine.profile import Profile, profile
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.progress import Progress, silent
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.lower.agreement import input_codes
from nybble.quantize.lower.conversion import ConversionReport
from nybble.quantize.lower.convert import convert
from nybble.quantize.ptq.blocks import first_images
from nybble.quantize.ptq.sensitivity import Group, GroupSensitivity, Sensitivities, groups, mixture
from nybble.quantize.settings import MixedConfig

#: Engine time of one image of a network, in seconds.
Timer = Callable[[QuantizedNetwork], float]
#: States of the knapsack beyond which those of nearly the same time are merged.
_STATES = 4096
#: Number of new choices if the engine is slower than the times of its layers predict.
_TRIALS = 4


@dataclass(frozen=True)
class Point:
    """A Pareto-optimal choice: groups that get 4 bits, the predicted price, and the seconds per image."""

    chosen: frozenset[str]
    price: float
    seconds: float


@dataclass(frozen=True)
class MixedChoice:
    """The result of :func:`choose_bits`.

    Attributes
    ----------
    network : QuantizedNetwork
        Calibrated, its ``config`` saying the bits of every layer; convert it, or reconstruct or fine-tune it first.
    four_bits : tuple of str
        Names of the groups that got 4 bits.
    price : float
        Predicted: noise of the logits, or points lost, over the 8-bit network's.
    seconds, seconds_8 : float
        Engine time of an image as the layers' times predict it, and with all in 8 bits.
    accuracy : float or None
        Top-1 in per cent on the images that the choice was made on: too good an estimate for other ones.
    measured_seconds, measured_seconds_8 : float or None
        Whole networks, timed; ``None`` without a timer.
    """

    network: QuantizedNetwork
    four_bits: tuple[str, ...]
    price: float
    seconds: float
    seconds_8: float
    accuracy: float | None = None
    measured_seconds: float | None = None
    measured_seconds_8: float | None = None

    @property
    def speed(self) -> float:
        """Speed relative to all in 8 bits: measured if there is a measurement, else predicted."""
        if self.measured_seconds is not None and self.measured_seconds_8 is not None:
            return self.measured_seconds_8 / self.measured_seconds
        return self.seconds_8 / self.seconds


def frontier(entries: Sequence[GroupSensitivity], seconds_8: float, prices: Sequence[float]) -> list[Point]:
    """The Pareto-optimal choices of price and time, fastest last. Exact up to ``_STATES`` of them.

    Groups of negative price count as free; groups that 4 bits make no faster are left in 8 bits.
    """
    states: list[tuple[float, float, frozenset[str]]] = [(0.0, 0.0, frozenset())]  # seconds saved, price, names
    for entry, price in zip(entries, prices, strict=True):
        if entry.saved <= 0:
            continue
        more = [
            (saved + entry.saved, cost + max(price, 0.0), names | {entry.group.name}) for saved, cost, names in states
        ]
        states = _undominated([*states, *more])
    return [Point(names, cost, seconds_8 - saved) for saved, cost, names in states]


def _undominated(states: list[tuple[float, float, frozenset[str]]]) -> list[tuple[float, float, frozenset[str]]]:
    """By seconds saved, ascending, and by price too: whatever saves more costs more."""
    kept: list[tuple[float, float, frozenset[str]]] = []
    for state in sorted(states, key=lambda state: (-state[0], state[1])):
        if not kept or state[1] < kept[-1][1]:
            kept.append(state)
    kept.reverse()
    if len(kept) <= _STATES:
        return kept
    edges = np.linspace(kept[0][0], kept[-1][0], _STATES)
    places = {bisect.bisect_left(kept, edge, key=lambda state: state[0]) for edge in edges.tolist()}
    return [kept[place] for place in sorted(places) if place < len(kept)]


def choose_bits(
    eight: QuantizedNetwork,
    four: QuantizedNetwork,
    sensitivities: Sensitivities,
    *,
    min_accuracy: float | None = None,
    speed: float | None = None,
    evaluate: Callable[[QuantizedNetwork], float] | None = None,
    timer: Timer | None = None,
    config: MixedConfig | None = None,
    progress: Progress = silent,
) -> MixedChoice:
    """The fastest network that reaches an accuracy, or the best one that reaches a speed.

    Parameters
    ----------
    eight, four : QuantizedNetwork
        As for :func:`sensitivity`.
    sensitivities : Sensitivities
    min_accuracy : float, optional
        Top-1 in per cent, by ``evaluate``. Verified, along the choices that the prices say are best, by bisection.
    speed : float, optional
        Times as fast as all in 8 bits. Exactly one of the two must be given. Where there is a timer, the whole network
        is timed, and a faster one chosen where it misses the speed.
    evaluate : callable, optional
        Top-1 in per cent of a network on the selection images (:func:`top1`); needed for ``min_accuracy``.
    timer : callable, optional
        Seconds of an image of a network; :func:`network_timer` makes one.
    config : MixedConfig, optional
        Its ``criterion`` is what a group's price is; by default the 8-bit network's own.
    progress : callable

    Raises
    ------
    QuantizeError
        If not exactly one budget is given, or it cannot be met (then with what could be reached).
    """
    if (min_accuracy is None) == (speed is None):
        raise QuantizeError("give one of --min-accuracy and --speed")
    config = config if config is not None else eight.config.mixed
    choice = _Choice(eight, four, sensitivities, config, evaluate, timer, progress)
    return choice.by_accuracy(min_accuracy) if min_accuracy is not None else choice.by_speed(speed or 1.0)


class _Choice:
    def __init__(
        self,
        eight: QuantizedNetwork,
        four: QuantizedNetwork,
        sensitivities: Sensitivities,
        config: MixedConfig,
        evaluate: Callable[[QuantizedNetwork], float] | None,
        timer: Timer | None,
        progress: Progress,
    ) -> None:
        self._eight, self._four = eight, four
        self._groups: list[Group] = [entry.group for entry in sensitivities.groups]
        self._seconds_8 = sensitivities.seconds_8
        self._evaluate, self._timer, self._progress = evaluate, timer, progress
        self.points = frontier(sensitivities.groups, sensitivities.seconds_8, _prices(sensitivities, config.criterion))

    def by_accuracy(self, wanted: float) -> MixedChoice:
        if self._evaluate is None:
            raise QuantizeError("--min-accuracy needs labelled images to verify it on")
        found: tuple[Point, QuantizedNetwork, float] | None = None
        low, high, tried = 0, len(self.points) - 1, 0
        while low <= high:
            # From the fast end: often all may have 4 bits.
            middle = high if tried == 0 else (low + high) // 2
            network = self._mixture(self.points[middle])
            accuracy = self._evaluate(network)
            tried += 1
            self._progress("choosing bits", tried, None)
            if accuracy >= wanted:
                found = self.points[middle], network, accuracy
                low = middle + 1
            else:
                high = middle - 1
        if found is None:
            accuracy = self._evaluate(self._mixture(self.points[0]))
            if accuracy < wanted:
                raise QuantizeError(
                    f"an accuracy of {wanted:g} % cannot be reached: all layers in 8 bits give {accuracy:.2f} %; "
                    "ask for less, reconstruct or fine-tune"
                )
            found = self.points[0], self._mixture(self.points[0]), accuracy
        point, network, accuracy = found
        slow, fast = (None, None) if self._timer is None else (self._timer(self._mixture_of([])), self._timer(network))
        return self._result(point, network, accuracy, fast, slow)

    def by_speed(self, wanted: float) -> MixedChoice:
        limit = self._seconds_8 / wanted
        slow = None if self._timer is None else self._timer(self._mixture_of([]))
        reached = ""
        for trial in range(_TRIALS):
            # Prices rise along the way: the first that is fast enough is the best.
            point = next((point for point in self.points if point.seconds <= limit * (1 + 1e-9)), None)
            if point is None:
                break
            network = self._mixture(point)
            fast = None if self._timer is None else self._timer(network)
            self._progress("choosing bits", trial + 1, None)
            if fast is None or slow is None or slow / fast >= wanted:
                accuracy = None if self._evaluate is None else self._evaluate(network)
                return self._result(point, network, accuracy, fast, slow)
            reached = f", of which {slow / fast:.2f} was measured"
            # The whole is slower than its parts said: ask for that much more.
            limit = min(limit, point.seconds * (1 - 1e-9)) * min(1.0, slow / fast / wanted)
        best = self._seconds_8 / self.points[-1].seconds
        raise QuantizeError(
            f"a speed of {wanted:g} times that of 8 bits cannot be reached: with 4 bits in all layers that gain, the "
            f"times of the layers give {best:.2f}{reached}; ask for less"
        )

    def _mixture(self, point: Point) -> QuantizedNetwork:
        return self._mixture_of([group for group in self._groups if group.name in point.chosen])

    def _mixture_of(self, chosen: list[Group]) -> QuantizedNetwork:
        mixed: QuantizedNetwork = mixture(self._eight, self._four, chosen)
        return mixed

    def _result(
        self, point: Point, network: QuantizedNetwork, accuracy: float | None, fast: float | None, slow: float | None
    ) -> MixedChoice:
        names = tuple(group.name for group in self._groups if group.name in point.chosen)
        return MixedChoice(network, names, point.price, point.seconds, self._seconds_8, accuracy, fast, slow)


def _prices(sensitivities: Sensitivities, criterion: str) -> list[float]:
    if criterion == "sqnr":
        return [entry.noise for entry in sensitivities.groups]
    lost = [entry.lost for entry in sensitivities.groups if entry.lost is not None]
    if len(lost) != len(sensitivities.groups):
        raise QuantizeError("criterion accuracy needs labelled images; choose sqnr")
    return lost


def engine_times(
    eight: QuantizedNetwork, four: QuantizedNetwork, batches: Iterable[Any], config: MixedConfig | None = None
) -> tuple[dict[str, tuple[float, float]], float]:
    """Convert both networks, and time their layers on the engine, interleaved.

    Returns
    -------
    dict of str to (float, float)
        By group, the seconds of its layers in 8 and in 4 bits, and of the lists of zeros made for them.
    float
        Seconds of an image of the 8-bit network, all steps together.
    """
    config = config if config is not None else eight.config.mixed
    inputs = _inputs(eight, batches, config.timed_images)
    found = groups(eight, four)
    measured = []
    for network in (eight, four):
        graph, report = convert(network)
        with Engine(graph, threads=config.threads) as engine:
            measured.append(_layer_seconds(network, report, profile(engine, inputs, config.runs), found, graph))
    (slow, total), (fast, _) = measured
    return {group.name: (slow[group.name], fast[group.name]) for group in found}, total


def multiplications(network: QuantizedNetwork) -> dict[str, float]:
    """By layer, the multiplications by its weights that an image takes."""
    steps = {step.name: step.module for step in network.steps if isinstance(step.module, QuantizedLayer)}
    with torch.no_grad():
        _, values = network(torch.zeros(1, *network.input_shape), list(steps))
    found = {}
    for name, layer in steps.items():
        places = values[name][0, 0].numel()
        found[layer.name] = float(layer.weight.numel() * places)
    return found


def weights_of(network: QuantizedNetwork) -> dict[str, float]:
    """By layer, the number of its weights."""
    return {name: float(layer.weight.numel()) for name, layer in network.layers().items()}


def shares_of_layers(
    eight: QuantizedNetwork, four: QuantizedNetwork, share_of: str = "multiplications"
) -> tuple[dict[str, tuple[float, float]], float]:
    """As :func:`engine_times`, with multiplications or weights in place of seconds: 4 bits save all of a group's.

    Only layers count whose weights have 4 bits in ``four`` and 8 in ``eight``.
    """
    counts = weights_of(eight) if share_of == "weights" else multiplications(eight)
    bits = {name: layer.weight_quantizer.bits for name, layer in four.layers().items()}
    other = {name: layer.weight_quantizer.bits for name, layer in eight.layers().items()}
    found = {
        group.name: (sum(counts[name] for name in group.layers if bits[name] != other[name]), 0.0)
        for group in groups(eight, four)
    }
    return found, sum(slow for slow, _ in found.values())


def network_timer(batches: Iterable[Any], config: MixedConfig | None = None) -> Timer:
    """A function that gives the engine's time of an image of a network: sum of its steps' medians."""
    kept = [part.clone() for part in first_images(batches, (config or MixedConfig()).timed_images)]

    def timed(network: QuantizedNetwork) -> float:
        settings = config if config is not None else network.config.mixed
        with Engine(convert(network)[0], threads=settings.threads) as engine:
            return profile(engine, _inputs(network, kept, settings.timed_images), settings.runs).seconds

    return timed


def _layer_seconds(
    network: QuantizedNetwork, report: ConversionReport, measured: Profile, found: list[Group], graph: Graph
) -> tuple[dict[str, float], float]:
    """Seconds by group, and of all steps."""
    nodes = {
        report.values[step.name]: step.module.name
        for step in network.steps
        if step.name in report.values and isinstance(step.module, QuantizedLayer)
    }
    owner = {name: group.name for group in found for name in group.layers}
    seconds = dict.fromkeys((group.name for group in found), 0.0)
    # Lists are of a value: they belong to the layers that read it.
    reads = {node.inputs[0]: nodes[node.name] for node in graph.nodes if node.name in nodes}
    for layer in measured.layers:
        name = reads.get(layer.head) if layer.kind == "lists" else nodes.get(layer.head)
        if name in owner:
            seconds[owner[name]] += layer.seconds
    return seconds, measured.seconds


def _inputs(network: QuantizedNetwork, batches: Iterable[Any], images: int) -> Array:
    parts = list(first_images(batches, images))
    if not parts:
        raise QuantizeError("timing needs at least one image, and the data had none")
    return input_codes(network, torch.cat(parts).cpu())
