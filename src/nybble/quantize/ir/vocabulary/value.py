"""Values in a front end: their names, and the shape in which readers see them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from nybble.quantize.ir.float_network import Op

#: For each axis that readers see, the network's own axes behind it, the slowest first.
Axes = tuple[tuple[int, ...], ...]


#: What can be done with a stack.
STACKED = (
    "values stacked on a new axis can only be summed up, averaged or multiplied, or joined by reshaping; of two a "
    "softmax can be taken"
)


class Unsupported(Exception):  # noqa: N818 - it becomes the reason in an error with a place
    """Raised if an operation cannot be part of a network; the text has the remedy. A front end adds the place."""


@dataclass(frozen=True)
class Translation:
    """A value that depends on the network's input.

    Flattening, squeezing and transposing move nothing: they only change how readers see a value.

    Attributes
    ----------
    name : str
    extents : tuple of int
        (C, H, W) or (C): the value in the network, without the batch.
    axes : tuple of tuple of int, optional
        What readers see: for each axis but the batch, the network's axes behind it. An axis without any has the
        extent 1. By default they see the network's own.
    ending : str
        ``softmax`` or ``log_softmax`` if that was left out; no operation may read such a value.
    """

    name: str
    extents: tuple[int, ...]
    axes: Axes = ()
    ending: str = ""

    def __post_init__(self) -> None:
        if not self.axes:
            object.__setattr__(self, "axes", tuple((axis,) for axis in range(len(self.extents))))

    @property
    def shape(self) -> tuple[int, ...]:
        """What readers see, without the batch."""
        return tuple(math.prod(self.extents[axis] for axis in group) for group in self.axes)

    @property
    def order(self) -> list[int]:
        """The network's axes as readers see them one after the other."""
        return [axis for group in self.axes for axis in group]

    @property
    def is_natural(self) -> bool:
        """Whether readers that flatten it get its elements in the network's order."""
        moved = [axis for axis in self.order if self.extents[axis] != 1]
        return moved == sorted(moved)

    def layout(self) -> Axes:
        """``axes`` without those of extent 1, for comparison."""
        return tuple(tuple(axis for axis in group if self.extents[axis] != 1) for group in self.axes)

    def channel_axis(self) -> int | None:
        """The axis on which readers see the channels, and nothing but them."""
        for place, group in enumerate(self.axes):
            if 0 in group:
                return place if all(axis == 0 or self.extents[axis] == 1 for axis in group) else None
        return None

    def axis(self, axis: int) -> int:
        """Place in ``axes`` of an axis that is counted with the batch, or from the end; Unsupported for the batch."""
        place = axis % (len(self.axes) + 1) - 1
        if place < 0:
            raise Unsupported("it must leave the batch (axis 0) alone")
        return place


@dataclass(frozen=True)
class Made:
    """Operations of which the last makes the value, and the axes its readers see.

    Operations that read each other refer to names that only :func:`settled` replaces by final ones.
    """

    ops: tuple[Op, ...]
    axes: Axes = ()


@dataclass(frozen=True)
class Stack:
    """Values side by side on an axis of their own, counted with the batch.

    They can be summed up, multiplied by those of another stack, and joined by reshaping; of two there is a softmax.
    """

    values: tuple[Translation, ...]
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        """What readers see, without the batch."""
        one = self.values[0].shape
        return (*one[: self.axis - 1], len(self.values), *one[self.axis - 1 :])


@dataclass(frozen=True)
class MadeStack:
    """What makes the values of a :class:`Stack`, in their order."""

    parts: tuple[Op | Made | Translation, ...]
    axis: int

    def settled(self, settle: Callable[[Op | Made | Translation], Translation]) -> Stack:
        """The stack of what ``settle`` puts into a network."""
        return Stack(tuple(settle(part) for part in self.parts), self.axis)


#: An operation, several, a value that stays as it is, values that wait for their sum, or a constant.
Result: TypeAlias = Op | Made | Translation | Stack | MadeStack | Tensor
#: What a call with several results returns, in their order.
Results: TypeAlias = tuple[Op | Made | Translation, ...]


def settled(result: Op | Made | Translation, add: Callable[[Op], str]) -> Translation:
    """Put what a builder returned into a network.

    Parameters
    ----------
    result : Op, Made or Translation
    add : callable
        Takes an operation into the network and returns the name it got there.
    """
    if isinstance(result, Translation):
        return result
    made = result if isinstance(result, Made) else Made((result,))
    names: dict[str, str] = {}
    for op in made.ops:
        op.inputs = tuple(names.get(name, name) for name in op.inputs)
        local = op.name
        names[local] = add(op)
    return Translation(names[local], op.shape, made.axes)


def value_of(value: object) -> Translation:
    """A value that depends on the image."""
    if isinstance(value, Stack):
        raise Unsupported(STACKED)
    if not isinstance(value, Translation):
        raise Unsupported("it must read what depends on the image, and constants only besides")
    return value


def image(value: object) -> Translation:
    """A value whose readers see (N, C, H, W) as the network has it."""
    x = value_of(value)
    if len(x.extents) != 3 or len(x.axes) != 3 or any(set(group) - {i} for i, group in enumerate(x.layout())):
        raise Unsupported(f"it must read images (N, C, H, W), not {seen(x)}")
    return Translation(x.name, x.extents, ending=x.ending)


def seen(x: Translation) -> str:
    """How errors write a shape."""
    moved = "" if x.is_natural else ", transposed"
    return f"({', '.join(map(str, ('N', *x.shape)))}{moved})"
