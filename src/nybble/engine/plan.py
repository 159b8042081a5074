"""The plan of a network: fused steps, a kernel for each, and every value's place in one arena."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nybble.engine.arena import Lifetime, place
from nybble.engine.choices import Choices
from nybble.engine.errors import EngineError
from nybble.engine.kernel import LIST_GROUPS, Kernel, choose_kernel
from nybble.engine.layout import ELEMENTS, stored_channels, stored_shape
from nybble.engine.order import Order, channel_orders
from nybble.graph import Graph
from nybble.lower import Step, fuse


@dataclass(frozen=True)
class Slot:
    """A block of the arena: a value, or the lists of one."""

    name: str
    nbytes: int
    offset: int
    first: int
    last: int


@dataclass
class Plan:
    """What the engine runs. ``print(plan)`` shows one line per step.

    Attributes
    ----------
    steps : list of Step
    kernels : dict
        Kernel of each convolution step, by the step's output.
    lists : dict
        The lists that are built of a value, by its name: groups in a block, by channels in a group.
    slots : dict
        The place of every stored value by its name, and of its lists by :func:`lists_of`; bytes are
        those of one image.
    arena_bytes : int
        Memory of all values of one image.
    orders : dict
        Channel order of stored values, by name: position to the graph's channel. Others keep the graph's.
    tuned : bool
        Whether kernels and orders are those that ``nybble tune`` found, not the defaults.
    """

    graph: Graph
    isa: str
    steps: list[Step]
    kernels: dict[str, Kernel]
    lists: dict[str, dict[int, int]] = field(default_factory=dict)
    slots: dict[str, Slot] = field(default_factory=dict)
    arena_bytes: int = 0
    orders: dict[str, Order] = field(default_factory=dict)
    tuned: bool = False

    def __str__(self) -> str:
        lines = [
            f"{self.isa}, {'tuned' if self.tuned else 'not tuned'}, {len(self.steps)} steps, "
            f"arena {self.arena_bytes / 1024:.0f} KiB an image"
        ]
        for step in self.steps:
            kernel = self.kernels.get(step.output)
            how = f"{kernel.method} x{kernel.block_outputs}" if kernel else step.kind
            names = " + ".join(node.name for node in step.nodes)
            slot = self.slots[step.output]
            lines.append(f"{names}: {', '.join(step.reads)} -> {self.graph.values[step.output]} [{how}] @{slot.offset}")
        return "\n".join(lines)


def lists_of(name: str, group: int) -> str:
    """Name of the slot that holds a value's lists of non-zero groups of two or four channels."""
    return f"{name}#{'pairs' if group == 2 else 'quads'}"


def make_plan(graph: Graph, isa: str, choices: Choices | None = None) -> Plan:
    """Fuse, choose kernels and place values; ``choices`` go before the defaults where they name a step or value.

    Raises :class:`EngineError` where the engine cannot run the graph: more than one input or output.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise EngineError(
            f"the engine runs networks of one input and one output; this one has {len(graph.inputs)} and "
            f"{len(graph.outputs)}"
        )
    steps = fuse(graph)
    for step in steps:
        if step.kind == "other":
            what = f"{step.head.name}: the engine cannot run {step.head.op}"
            raise EngineError(f"{what}; run it on the reference, device='reference'")
    kernels = {step.output: choose_kernel(graph, head, isa) for step in steps if (head := step.weighted) is not None}
    if choices is not None:
        kernels.update((name, kernel) for name, kernel in choices.kernels.items() if name in kernels)
    kernels = _with_shared_lists(steps, kernels)
    plan = Plan(graph, isa, steps, kernels, _needed_lists(steps, kernels), tuned=choices is not None)
    if any(kernel.method in LIST_GROUPS for kernel in kernels.values()):
        plan.orders = channel_orders(graph, steps, choices.orders if choices is not None else {})
    _place(plan)
    return plan


def _with_shared_lists(steps: list[Step], kernels: dict[str, Kernel]) -> dict[str, Kernel]:
    """All convolutions that read one value share its lists: in blocks of the smallest that any needs."""
    blocks: dict[tuple[str, str], int] = {}
    for step in steps:
        if (kernel := kernels.get(step.output)) is not None and kernel.method in LIST_GROUPS:
            key = (step.source, kernel.method)
            blocks[key] = min(kernel.list_block, blocks.get(key, kernel.list_block))
    return {
        step.output: replace(kernel, list_block=blocks.get((step.source, kernel.method), 0))
        for step in steps
        if (kernel := kernels.get(step.output)) is not None
    }


def _needed_lists(steps: list[Step], kernels: dict[str, Kernel]) -> dict[str, dict[int, int]]:
    needed: dict[str, dict[int, int]] = {}
    for step in steps:
        kernel = kernels.get(step.output)
        if kernel is not None and (group := LIST_GROUPS.get(kernel.method)):
            needed.setdefault(step.source, {})[group] = kernel.list_block
    return needed


def _value_bytes(graph: Graph, name: str) -> int:
    _, height, width = stored_shape(graph, name)
    return (
        stored_channels(graph, name) * height * width * (1 if ELEMENTS[graph.values[name].dtype].endswith("8") else 4)
    )


def _list_bytes(graph: Graph, name: str, group: int, block: int) -> int:
    # As Program::add_lists has it: entries of 4 bytes, for quads an index of 2, and the ends of the blocks.
    _, height, width = stored_shape(graph, name)
    groups = -(-stored_channels(graph, name) // (16 * group)) * 16
    return height * width * (groups * (4 if group == 2 else 6) + -(-groups // block) * 2)


def _place(plan: Plan) -> None:
    graph = plan.graph
    written = {graph.inputs[0].name: -1} | {step.output: i for i, step in enumerate(plan.steps)}
    last = dict(written)
    last_list: dict[str, int] = {}
    for i, step in enumerate(plan.steps):
        kernel = plan.kernels.get(step.output)
        group = LIST_GROUPS.get(kernel.method) if kernel is not None else None
        if group is not None:
            last_list[lists_of(step.source, group)] = i
        for name in step.reads:
            # Of a value with lists nothing else is read.
            if group is None or name != step.source or name == step.shortcut:
                last[name] = i
    last[graph.outputs[0]] = len(plan.steps)
    # The step that writes a value builds its lists.
    lists = {
        key: Lifetime(_list_bytes(graph, name, group, block), written[name], last_list[key])
        for name, blocks in plan.lists.items()
        for group, block in blocks.items()
        for key in [lists_of(name, group)]
    }

    names = [*written, *lists]
    lifetimes = [Lifetime(_value_bytes(graph, name), written[name], last[name]) for name in written]
    lifetimes += lists.values()
    offsets, plan.arena_bytes = place(lifetimes)
    plan.slots = {
        name: Slot(name, life.nbytes, offset, life.first, life.last)
        for name, life, offset in zip(names, lifetimes, offsets, strict=True)
    }
