"""Finds the values that concatenations join: their codes are copied, so one quantizer has to make them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from nybble.quantize.ir.float_network import INPUT, Concat, FloatNetwork, Rectifier


@dataclass(frozen=True)
class Joined:
    """Values with one step.

    Attributes
    ----------
    name : str
        Of the first concatenation.
    values : tuple of str
        Those that a quantizer of their own would make otherwise. Where their activation functions clip at different
        maxima, one step would clip some of them elsewhere; such values keep their own and are not among them.
    results : tuple of str
        The concatenations.
    """

    name: str
    values: tuple[str, ...]
    results: tuple[str, ...]


def joined_values(network: FloatNetwork) -> dict[str, Joined]:
    """By value, and by concatenation, what it is joined with."""

    def origin(name: str) -> str:
        return origin_of(network, name)

    found: dict[str, Joined] = {}
    order = [op.name for op in network]
    for names in joined_groups(((op.name, op.inputs) for op in network if isinstance(op, Concat)), origin):
        members = sorted((name for name in names if name != INPUT), key=order.index)
        results = [name for name in members if isinstance(network[name], Concat)]
        values = [name for name in members if name not in results]
        if len({_maximum(network, name) for name in values}) > 1:
            values = [name for name in values if _maximum(network, name) is None]
        joined = Joined(results[0], tuple(values), tuple(results))
        found.update(dict.fromkeys((*values, *results), joined))
    return found


def origin_of(network: FloatNetwork, name: str) -> str:
    """The value whose codes a value's are: pools and padding keep them."""
    while name != INPUT and (op := network[name]).keeps_codes:
        (name,) = op.inputs
    return name


def joined_groups(concatenations: Iterable[tuple[str, Sequence[str]]], origin: Callable[[str], str]) -> list[list[str]]:
    """Names that concatenations, each given by its own name and those it reads, bring together.

    ``origin`` says which value's codes a value has; concatenations are their own.
    """
    groups: dict[str, list[str]] = {}
    for name, inputs in concatenations:
        # In the order in which they are given, each reads only what came before.
        merged = [name]
        for group in {id(found): found for entry in inputs if (found := groups.get(origin(entry)))}.values():
            merged += group
        merged += [source for entry in inputs if (source := origin(entry)) not in merged]
        merged = list(dict.fromkeys(merged))
        groups.update(dict.fromkeys(merged, merged))
    return list({id(group): group for group in groups.values()}.values())


def _maximum(network: FloatNetwork, name: str) -> float | None:
    op = network[name]
    return op.maximum if isinstance(op, Rectifier) else None
