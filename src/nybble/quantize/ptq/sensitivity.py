"""The noise that 4 bits add and the time that they save, for each group of layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from nybble.progress import Progress, silent
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.output_error import output_error
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.lower.snap import snap_steps
from nybble.quantize.ptq.blocks import first_images


@dataclass(frozen=True)
class Group:
    """Layers that read one activation, and that activation: they get 4 bits together or not at all.

    Attributes
    ----------
    name : str
        Of the activation, or of the layer where only its weights differ.
    layers : tuple of str
        Those whose weights have other bits in the two networks, or whose input has.
    activation : str or None
        ``None`` where it has the same type in both.
    """

    name: str
    layers: tuple[str, ...]
    activation: str | None


@dataclass(frozen=True)
class GroupSensitivity:
    """A group, and the figures of the network with 4 bits in this group only.

    Attributes
    ----------
    group : Group
    noise : float
        Squared error of the logits against the float network's as a share of their energy, beyond what the 8-bit
        network has; can be slightly negative by chance. Of a network that is not a classifier, that of its outputs as
        :func:`nybble.quantize.fake.output_error.output_error` has it.
    sqnr : float
        Signal-to-noise ratio of those logits in dB.
    agreement : float or None
        Share of images with the float network's top-1 class; ``None`` of a network that is not a classifier.
    lost : float or None
        Top-1 accuracy lost against the 8-bit network, in points; ``None`` without labels. Of a network that is no
        classifier, what it loses of the ``score`` that was asked for.
    seconds_8, seconds_4 : float
        The engine's time for the group's layers.
    """

    group: Group
    noise: float
    sqnr: float
    agreement: float | None
    lost: float | None
    seconds_8: float
    seconds_4: float

    @property
    def saved(self) -> float:
        """Seconds that 4 bits save; negative where they are slower."""
        return self.seconds_8 - self.seconds_4


@dataclass
class Sensitivities:
    """The result of :func:`sensitivity`.

    Attributes
    ----------
    groups : list of GroupSensitivity
        In the order of the network.
    noise_8, noise_4 : float
        Of the logits with all groups in 8 bits and all in 4, as a share of their energy.
    accuracy_float, accuracy_8, accuracy_4 : float or None
        Top-1 in per cent on the same images.
    seconds_8 : float
        Engine time of an image with all groups in 8 bits.
    images : int
    """

    groups: list[GroupSensitivity] = field(default_factory=list)
    noise_8: float = 0.0
    noise_4: float = 0.0
    accuracy_float: float | None = None
    accuracy_8: float | None = None
    accuracy_4: float | None = None
    seconds_8: float = 0.0
    images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "groups": [{**asdict(entry), "saved": entry.saved} for entry in self.groups]}

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text, a heading first: name, layers, SQNR, agreement, points lost, milliseconds at 8 and 4 bits."""
        heading = ("activation", "layers", "SQNR dB", "same top-1", "top-1 lost", "8-bit ms", "4-bit ms")
        return [heading, *(_row(entry) for entry in self.groups)]


def _row(entry: GroupSensitivity) -> tuple[str, ...]:
    return (
        entry.group.name,
        ", ".join(entry.group.layers),
        f"{entry.sqnr:.1f}",
        "" if entry.agreement is None else f"{entry.agreement:.1%}",
        "" if entry.lost is None else f"{entry.lost:.2f}",
        f"{entry.seconds_8 * 1e3:.3f}",
        f"{entry.seconds_4 * 1e3:.3f}",
    )


def groups(eight: QuantizedNetwork, four: QuantizedNetwork) -> list[Group]:
    """Where two preparations of one network differ in bits.

    Raises
    ------
    QuantizeError
        If they are not of the same network.
    """
    left, right = eight.layers(), four.layers()
    left_activations, right_activations = _activations(eight), _activations(four)
    if list(left) != list(right) or list(left_activations) != list(right_activations):
        raise QuantizeError("the 8-bit and the 4-bit network are not two preparations of one network")
    for name, layer in left.items():
        if layer.weight.shape != right[name].weight.shape or not torch.equal(layer.weight, right[name].weight):
            raise QuantizeError(
                f"{name}: the 8-bit and the 4-bit network have different weights; measure before either is changed"
            )
    found: list[Group] = []
    for name, quantizer in left_activations.items():
        readers = [layer for layer in left.values() if layer.input_quantizer is quantizer]
        differs = quantizer.dtype is not right_activations[name].dtype
        bits = {
            layer.name for layer in readers if layer.weight_quantizer.bits != right[layer.name].weight_quantizer.bits
        }
        if differs:
            found.append(Group(name, tuple(layer.name for layer in readers), name))
        else:
            found.extend(Group(layer.name, (layer.name,), None) for layer in readers if layer.name in bits)
    return found


@torch.no_grad()
def mixture(eight: QuantizedNetwork, four: QuantizedNetwork, chosen: Iterable[Group]) -> QuantizedNetwork:
    """The 8-bit network with some groups as the 4-bit one has them, ranges included; both are left as they are.

    Weight steps are enlarged so that factors are exact again (:func:`snap_steps`).
    """
    mixed = copy.deepcopy(eight)
    mixed.config = eight.config.model_copy(deep=True)
    layers, others = mixed.layers(), four.layers()
    activations, other_activations = _activations(mixed), _activations(four)
    for group in chosen:
        for name in group.layers:
            to, given = layers[name].weight_quantizer, others[name].weight_quantizer
            to.bits, to.low, to.high = given.bits, given.low, given.high
            to.scale.copy_(given.scale)
            mixed.config.layers[name] = four.config.layers[name].model_copy()
        if group.activation is not None:
            entry, source = activations[group.activation], other_activations[group.activation]
            entry.dtype, entry.shift, entry.shifts = source.dtype, source.shift, source.shifts
            entry.scale.copy_(source.scale)
            mixed.config.activations[group.activation] = four.config.activations[group.activation].model_copy()
    snap_steps(mixed)
    mixed.set_mode("quantize")
    return mixed


def sensitivity(
    eight: QuantizedNetwork,
    four: QuantizedNetwork,
    batches: Iterable[Any],
    times: Mapping[str, tuple[float, float]],
    seconds_8: float,
    *,
    images: int | None = None,
    score: Callable[[QuantizedNetwork], float] | None = None,
    progress: Progress = silent,
) -> Sensitivities:
    """Measure the effect on the logits of 4 bits in each group alone.

    Parameters
    ----------
    eight, four : QuantizedNetwork
        One network prepared with 8 and with 4 bits, both calibrated. Where they do not differ (first and last layers),
        there is nothing to choose.
    batches : iterable
        float32 (N, C, H, W), or tuples (images, labels, ...). Labels of -1 stand for none.
    times : mapping of str to (float, float)
        By group name, the seconds of its layers in the 8-bit and the 4-bit network; :func:`engine_times` gives them.
    seconds_8 : float
        Engine time of an image with all in 8 bits.
    images : int, optional
        Use only the first so many.
    score : callable, optional
        Replaces top-1: the quality of a network, in points.
    progress : callable

    Returns
    -------
    Sensitivities

    Raises
    ------
    QuantizeError
        On no images, networks that do not belong together, or a group without a time.
    """
    found = groups(eight, four)
    if missing := [group.name for group in found if group.name not in times]:
        raise QuantizeError(f"{missing[0]}: no time is given for this group of layers")
    cached = _Images(batches, images)
    reference = copy.deepcopy(eight)
    reference.set_mode("float")
    exact = cached.answers(reference)
    cached.score = score
    noise_8, _, accuracy_8 = cached.compare(mixture(eight, four, []), exact)
    noise_4, _, accuracy_4 = cached.compare(mixture(eight, four, found), exact)
    result = Sensitivities(
        noise_8=noise_8,
        noise_4=noise_4,
        accuracy_float=cached.accuracy(exact),
        accuracy_8=accuracy_8,
        accuracy_4=accuracy_4,
        seconds_8=seconds_8,
        images=cached.count,
    )
    for place, group in enumerate(found):
        noise, agreement, accuracy = cached.compare(mixture(eight, four, [group]), exact)
        lost = None if accuracy is None or accuracy_8 is None else accuracy_8 - accuracy
        slow, fast = times[group.name]
        decibels = -10 * math.log10(noise) if noise > 0 else math.inf
        result.groups.append(GroupSensitivity(group, noise - noise_8, decibels, agreement, lost, slow, fast))
        progress("measuring sensitivity", place + 1, len(found))
    return result


def top1(network: QuantizedNetwork, batches: Iterable[Any], images: int | None = None) -> float:
    """Top-1 accuracy in per cent, in the mode that the network is in.

    Raises
    ------
    QuantizeError
        If the batches have no labels.
    """
    cached = _Images(batches, images)
    accuracy = cached.accuracy(cached.answers(network))
    if accuracy is None:
        raise QuantizeError("accuracy needs labelled images: batches (images, labels)")
    return accuracy


class _Images:
    """The images that every candidate sees, and their labels."""

    def __init__(self, batches: Iterable[Any], images: int | None) -> None:
        labels: list[Tensor] = []

        def seen() -> Iterable[Any]:
            for batch in batches:
                if not isinstance(batch, Tensor) and len(batch) > 1:
                    labels.append(batch[1])
                yield batch

        self.parts: Sequence[Tensor] = list(first_images(seen(), images))
        self.count = sum(len(part) for part in self.parts)
        if not self.count:
            raise QuantizeError("sensitivity needs at least one image, and the data had none")
        known = torch.cat(labels)[: self.count] if labels else torch.empty(0)
        #: In place of top-1.
        self.score: Callable[[QuantizedNetwork], float] | None = None
        self.labels = known if len(known) == self.count and bool((known >= 0).all()) else None

    def answers(self, network: QuantizedNetwork) -> dict[str, Tensor]:
        """Logits, or the outputs of a network that is not a classifier: float64, by the names of their steps."""
        network.eval()
        device = next(network.parameters()).device
        names = list(network.result_steps.values()) or [network.output]
        with torch.inference_mode():
            found = [network(part.to(device), names)[1] for part in self.parts]
        return {name: torch.cat([values[name].double().cpu() for values in found]) for name in names}

    def accuracy(self, answers: Mapping[str, Tensor]) -> float | None:
        if self.labels is None or len(answers) > 1:
            return None
        (logits,) = answers.values()
        return float((logits.flatten(1).argmax(1) == self.labels).double().mean()) * 100

    def compare(
        self, network: QuantizedNetwork, exact: Mapping[str, Tensor]
    ) -> tuple[float, float | None, float | None]:
        """Noise as a share of the energy, share of equal top-1 classes, accuracy."""
        found = self.answers(network)
        if network.outputs:
            return float(output_error(found, exact)), None, None if self.score is None else self.score(network)
        (logits,), (wanted,) = found.values(), exact.values()
        noise = float((logits - wanted).square().sum() / wanted.square().sum().clamp_min(1e-30))
        agreement = float((logits.flatten(1).argmax(1) == wanted.flatten(1).argmax(1)).double().mean())
        return noise, agreement, self.accuracy(found)


def _activations(network: QuantizedNetwork) -> dict[str, ActivationQuantizer]:
    """All of them, the input's included."""
    return {network.INPUT: network.input_quantizer, **network.activation_quantizers()}
