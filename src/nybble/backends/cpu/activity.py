"""Counts on inputs which channels are active together, and derives channel orders from the counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nybble.backends.cpu.layout import has_lists
from nybble.backends.cpu.order import Order, match, order_classes
from nybble.graph.types import Array
from nybble.lower import Step

#: Most pixels of a value that are counted for one input; neighbouring pixels add little.
_MOST_PIXELS = 512

Matrix = NDArray[np.float32]


class Activity:
    """For each class of values that share an order: how often each two channels are non-zero at one pixel.

    The values of a class are averaged, each weighted by the MACs of the convolutions that could read its lists.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.inputs = 0
        self._weights = _readers(steps)
        self.classes = [values for values in order_classes(steps) if not self._weights.keys().isdisjoint(values)]
        channels = {step.output: step.result.shape[0] for step in steps}
        sizes = [channels[values[0]] for values in self.classes]
        self._both: list[Matrix] = [np.zeros((size, size), np.float32) for size in sizes]

    def count(self, values: dict[str, Array]) -> None:
        """Add one input or several: stored values (N, C, ...) in the graph's channel order, by name."""
        self.inputs += 1
        for names, both in zip(self.classes, self._both, strict=True):
            total = sum(self._weights.get(name, 0) for name in names)
            for name in names:
                if name not in self._weights:
                    continue
                active = np.moveaxis(values[name], 1, 0).reshape(values[name].shape[1], -1) != 0
                active = active[:, :: max(1, active.shape[1] // _MOST_PIXELS)]
                sample = active.astype(np.float32)
                both += (sample @ sample.T) * np.float32(self._weights[name] / total / sample.shape[1])

    def both(self, index: int) -> Matrix:
        """(C, C) share of pixels at which two channels of a class are both non-zero; each one's own on the diagonal."""
        return self._both[index] / np.float32(max(1, self.inputs))

    def macs(self, index: int) -> int:
        """Multiply-accumulates of the convolutions that could read the lists of a class."""
        return sum(self._weights.get(name, 0) for name in self.classes[index])

    def orders(self) -> dict[str, Order]:
        """The order of every value of every class: channels that are active together are pairs.

        Matching on P(both non-zero) minimises the number of non-zero pairs, since P(a or b) = P(a) + P(b) - P(both).
        The pairs are then matched with each other, for lists of groups of four.
        """
        found: dict[str, Order] = {}
        for index, values in enumerate(self.classes):
            both = self.both(index)
            pairs = match(both)
            whole = len(pairs) // 2 * 2
            between = both[np.ix_(pairs[:whole], pairs[:whole])]
            quads = match(between.reshape(whole // 2, 2, whole // 2, 2).sum(axis=(1, 3)))
            order = np.concatenate([pairs[:whole].reshape(-1, 2)[quads].reshape(-1), pairs[whole:]])
            found.update(dict.fromkeys(values, order))
        return found

    def pair_share(self, orders: dict[str, Order]) -> float:
        """Share of pairs that are not zero under these orders (the graph's where one is missing), weighted by MACs."""
        shares = [self.class_share(index, orders.get(values[0])) for index, values in enumerate(self.classes)]
        macs = [self.macs(index) for index in range(len(self.classes))]
        return float(np.average(shares, weights=macs)) if shares else 0.0

    def class_share(self, index: int, order: Order | None) -> float:
        """Share of pairs of one class that are not zero under an order."""
        both = self.both(index)
        if order is not None:
            both = both[np.ix_(order, order)]
        active = np.diag(both)
        left, right = np.arange(0, len(both) - 1, 2), np.arange(1, len(both), 2)
        return float((active.sum() - both[left, right].sum()) / -(-len(both) // 2))


def orders_from_activity(fitted: Activity, held_out: Activity, before: dict[str, Order]) -> dict[str, Order]:
    """Orders matched on ``fitted``, for the classes where they are better than ``before`` on ``held_out``."""
    found = fitted.orders()
    for index, values in enumerate(fitted.classes):
        new, old = found[values[0]], before.get(values[0])
        if held_out.class_share(index, new) >= held_out.class_share(index, old):
            for name in values:
                del found[name]
    return found


def _readers(steps: Sequence[Step]) -> dict[str, int]:
    """MACs of the convolutions that could read a value's lists, by the value's name."""
    macs: dict[str, int] = {}
    for step in steps:
        if step.conv is not None and has_lists(step.input):
            macs[step.source] = macs.get(step.source, 0) + step.macs
    return macs
