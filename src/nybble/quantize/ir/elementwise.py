"""Functions of one number in the float ir, and compositions of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import torch
from torch import Tensor

from nybble.graph import functions
from nybble.quantize.ir.float_network import Affine, Op, Rectifier, Sum
from nybble.quantize.ir.rewriting import Region

#: Points at which functions are evaluated: dense around 0, sparse far from it.
PROBES = torch.cat([-torch.logspace(4, 1.3, 400), torch.linspace(-20, 20, 5121), torch.logspace(1.3, 4, 400)]).double()


@dataclass(kw_only=True)
class Function(Op):
    """A function of one number; of two values of one shape where it is only part of one.

    Attributes
    ----------
    function : callable
        Takes tensors of any one shape, in any floating-point type, and can be pickled.
    label : str
        The name in errors and in the graph, if its values are not those of a known function; empty for a composition.
    reach : float, optional
        Magnitude beyond which the function is constant; its input may be clipped there.
    """

    function: Callable[..., Tensor]
    label: str
    reach: float | None = None

    is_elementwise: ClassVar[bool] = True
    input_bits: ClassVar[int | None] = 8

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether none of its values is negative, at the points of evaluation."""
        return len(self.inputs) == 1 and _is_nonnegative(self.function, self.inputs[0] in positive)

    def _compute(self, *values: Tensor) -> Tensor:
        return self.function(*values)


@dataclass(kw_only=True)
class Product(Op):
    """The product of a value and another of its shape, or of a value and a gate (C, 1, 1)."""

    is_elementwise: ClassVar[bool] = True
    reads_codes: ClassVar[bool] = True
    gives_sums: ClassVar[bool] = True
    takes_shortcuts: ClassVar[bool] = False

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        """Whether none of its inputs can be negative."""
        return all(name in positive for name in self.inputs)

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0] * values[1]


@dataclass(kw_only=True)
class GatedProduct(Product):
    """The product of two 8-bit operands that computes a function ``x * gate(x)``."""

    reads_codes: ClassVar[bool] = False
    input_bits: ClassVar[int | None] = 8


@dataclass(frozen=True)
class Composition:
    """A composition of functions.

    Attributes
    ----------
    steps : tuple of (callable, tuple of int)
        Each is a function and the indices of its arguments: 0 is the number itself, 1 the first step's result.
    """

    steps: tuple[tuple[Callable[..., Tensor], tuple[int, ...]], ...]

    def __call__(self, x: Tensor) -> Tensor:
        """The function's values for a tensor of any shape."""
        values = [x]
        for function, places in self.steps:
            values.append(function(*(values[place] for place in places)))
        return values[-1]


@lru_cache(maxsize=1024)
def _is_nonnegative(function: Callable[[Tensor], Tensor], of_nonnegative: bool) -> bool:
    x = PROBES[PROBES >= 0] if of_nonnegative else PROBES
    with torch.no_grad():
        y = function(x)
    return bool((y[~torch.isnan(y)] >= 0).all())


def composed(found: Region) -> Function:
    """The function of one number that a region is; its operations treat all channels alike."""
    places = {found.source: 0} | {op.name: place for place, op in enumerate(found.ops, 1)}
    steps = tuple((_plain(op), tuple(places[name] for name in op.inputs)) for op in found.ops)
    (first, *others) = found.ops
    if not others and isinstance(first, Function):
        return Function(name="", inputs=(), shape=(), function=first.function, label=first.label)
    return Function(name="", inputs=(), shape=(), function=Composition(steps), label="")


def name_of(function: Callable[[Tensor], Tensor], label: str) -> str:
    """The name of a function: the one that its values imply, else the name from its capture."""
    x = torch.linspace(-8, 8, 1025, dtype=torch.float64)
    with torch.no_grad():
        return functions.name_of(x.numpy(), function(x).numpy()) or label


def _plain(op: Op) -> Callable[..., Tensor]:
    """An operation as a function of numbers, without channels."""
    match op:
        case Function():
            return op.function
        case Affine():
            return partial(_affine, gain=float(op.gain[0]), offset=float(op.offset[0]))
        case Rectifier():
            return partial(torch.clamp, min=op.minimum, max=op.maximum)
        case Sum():
            return _sum
        case Product():
            return _product
        case _:
            return op


def _sum(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def _product(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def _affine(x: Tensor, *, gain: float, offset: float) -> Tensor:
    return x * gain + offset
