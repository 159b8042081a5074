"""Relations between the steps of codes that are rounded from one sum.

A layer's sums have one unit per channel. If two Quantize nodes round them to two activations, their factors determine
the ratio of the two steps. Factors are rounded, so each gives an interval; those of all channels, and of all sums
between the same activations, must hold together. In logarithms these are difference constraints, which the closure of
shortest paths solves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nybble.graph import Quantize
from nybble.graph.types import Array

#: How far a factor may be from what it was rounded from. A half is what rounding leaves; below it there is room for
#: steps in float32. The last, for graphs that fit no steps exactly, lets factors differ by one.
REACHES = (0.48, 0.498, 1.48)


class Bounds(NamedTuple):
    """Of the unit of sums, in steps of ``codes``: between ``low`` and ``high``, (K,) each.

    Attributes
    ----------
    codes : str
    low, high, best : ndarray
    weight : ndarray
        (K,): how precise ``best`` is, where several are given.
    """

    codes: str
    low: Array
    high: Array
    best: Array
    weight: Array

    @staticmethod
    def of(node: Quantize, codes: str, best: Array, reach: float) -> Bounds:
        """The bounds that follow from the factors of a Quantize."""
        factor = node.factor.numpy().astype(np.float64)
        low, high = (np.maximum(factor + way, 0.0) / 2.0**node.shift for way in (-reach, reach))
        return Bounds(codes, low, high, best, factor)


def exactly(codes: str, unit: Array) -> Bounds:
    """That a unit has so many steps of codes, (K,), and no others."""
    return Bounds(codes, unit, unit, unit, np.full(len(unit), np.inf))


class Tie(NamedTuple):
    """That codes have ``ratio`` times the step of ``lead``."""

    lead: str
    ratio: float


def unit_between(bounds: Sequence[Bounds], steps: Mapping[str, float]) -> Array:
    """(K,): the unit of sums that suits all bounds: what the most precise one says, moved into the others."""
    scaled = [np.asarray(entry.best) * steps[entry.codes] for entry in bounds]
    finest = np.argmax(np.stack([entry.weight for entry in bounds]), axis=0)
    unit = np.take_along_axis(np.stack(scaled), finest[None], axis=0)[0]
    low = np.max([entry.low * steps[entry.codes] for entry in bounds], axis=0)
    high = np.min([entry.high * steps[entry.codes] for entry in bounds], axis=0)
    moved: Array = np.minimum(np.maximum(unit, low), high)
    return moved


def solve(groups: Iterable[Sequence[Bounds]], order: Sequence[str]) -> dict[str, Tie] | None:
    """Steps that meet all bounds of all sums, each relative to the first codes of those that it is tied to.

    Parameters
    ----------
    groups : iterable of sequence of Bounds
        By sums, what each of their readers says of the unit.
    order : sequence of str
        All codes; the first of those tied together leads.

    Returns
    -------
    dict of str to Tie
        Of codes that are tied and do not lead; ``None`` if no steps meet all bounds.
    """
    groups = [group for group in groups if len(group) > 1]
    ties: dict[str, Tie] = {}
    for names in _components(groups, order):
        distance = _closure(groups, names)
        if np.any(np.diagonal(distance) < -1e-12):
            return None
        found = _between(distance)
        ties.update({name: Tie(names[0], math.exp(value)) for name, value in zip(names[1:], found[1:], strict=True)})
    return ties


def _components(groups: Iterable[Sequence[Bounds]], order: Sequence[str]) -> list[list[str]]:
    places = {name: place for place, name in enumerate(order)}
    member: dict[str, set[str]] = {}
    for group in groups:
        merged = {entry.codes for entry in group}
        for name in tuple(merged):
            merged |= member.get(name, set())
        member.update(dict.fromkeys(merged, merged))
    unique = {id(names): names for names in member.values()}
    return [sorted(names, key=places.__getitem__) for names in unique.values()]


def _closure(groups: Iterable[Sequence[Bounds]], names: Sequence[str]) -> Array:
    """``[i, j]``: the most that the logarithm of step ``i`` may exceed that of step ``j``."""
    places = {name: place for place, name in enumerate(names)}
    distance = np.full((len(names), len(names)), np.inf)
    np.fill_diagonal(distance, 0.0)
    for group in groups:
        if group[0].codes not in places:
            continue
        for first in group:
            for other in group:
                if first is not other:
                    # step_i * low_i <= unit <= step_j * high_j
                    alive = first.low > 0
                    most = np.log(other.high[alive] / first.low[alive]).min(initial=np.inf)
                    at = places[first.codes], places[other.codes]
                    distance[at] = min(distance[at], most)
    for middle in range(len(names)):
        distance = np.minimum(distance, distance[:, middle, None] + distance[None, middle])
    return distance


def _between(distance: Array) -> Array:
    """A value for each, the first 0, whose differences keep to closed bounds: one after the other the middle."""
    values = np.zeros(len(distance))
    for place in range(1, len(distance)):
        low = float(np.max(values[:place] - distance[:place, place]))
        high = float(np.min(values[:place] + distance[place, :place]))
        if math.isinf(low) or math.isinf(high):
            values[place] = low if math.isinf(high) else high
            values[place] = 0.0 if math.isinf(values[place]) else values[place]
        else:
            values[place] = (low + high) / 2
    return values
