"""Builds a native program: each step adds itself and the ids of its values and lists."""

from __future__ import annotations

from nybble import _native
from nybble.backends.cpu.layout import ELEMENTS, stored_shape
from nybble.backends.cpu.order import Order
from nybble.backends.cpu.plan import Plan, lists_of
from nybble.graph import PReLU, Quantize
from nybble.lower import Step, Value


class Builder:
    """A native program under construction.

    Attributes
    ----------
    plan : Plan
    program : Program
    ids : dict
        Ids of values by name, and of lists by :func:`~nybble.backends.cpu.plan.lists_of`.
    step_names : list of str
        A name for each native step in order: the value that it writes, or the lists.
    """

    def __init__(self, plan: Plan, threads: int, most_images: int) -> None:
        self.plan = plan
        self.program = _native.Program(
            isa=plan.isa, threads=threads, most_images=most_images, arena_bytes=plan.arena_bytes
        )
        self.ids: dict[str, int] = {}
        self.step_names: list[str] = []

    def value(self, value: Value) -> int:
        """Add a value; its id."""
        offset = self.plan.slots[value.name].offset
        number = self.program.add_value(ELEMENTS[value.dtype], *stored_shape(value), value.is_input, offset)
        self.ids[value.name] = number
        return number

    def output(self, step: Step) -> tuple[int, list[int]]:
        """Add the value that a step writes, and the lists that it builds of the value; their ids."""
        name = step.output
        value = self.value(step.result)
        self.step_names.append(name)
        lists = []
        for group, block in self.plan.lists.get(name, {}).items():
            key = lists_of(name, group)
            self.ids[key] = self.program.add_lists(value, group, block, self.plan.slots[key].offset)
            self.step_names.append(key)
            lists.append(self.ids[key])
        return value, lists

    def order(self, value: Value) -> Order | slice:
        """The order in which a value's channels are stored, as an array of indices."""
        return self.plan.orders.get(value.name, slice(None))


def rule_of(node: Quantize | PReLU, order: Order | slice) -> _native.Requantize:
    """The native rule of a Quantize, or of the positive side of a PReLU, for channels in an order."""
    rule = _native.Requantize()
    rule.factor = node.factor.numpy()[order].tolist()
    rule.shift = node.shift
    rule.low, rule.high = node.output_type.minimum, node.output_type.maximum
    return rule
