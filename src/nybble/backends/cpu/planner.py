"""Planning: chooses kernels, and places lists and values in the arena."""

from __future__ import annotations

from dataclasses import replace

from nybble.backends.cpu.choices import Choices
from nybble.backends.cpu.kernel import LIST_GROUPS, Kernel
from nybble.backends.cpu.kinds import kind_of
from nybble.backends.cpu.layout import stored_bytes, stored_channels, stored_shape
from nybble.backends.cpu.order import channel_orders
from nybble.backends.cpu.plan import Plan, Slot, lists_of
from nybble.backends.errors import EngineError
from nybble.graph import Graph
from nybble.lower import Step, Value, fuse
from nybble.lower.arena import Lifetime, place


def make_plan(graph: Graph, isa: str, choices: Choices | None = None) -> Plan:
    """Fuse, choose kernels and place values; ``choices`` replace the defaults of the steps and values that they name.

    Raises :class:`EngineError` if the engine cannot run the graph: it has more than one input, or a step without a
    kernel.
    """
    if len(graph.inputs) != 1:
        raise EngineError(f"the engine runs networks of one input; this one has {len(graph.inputs)}")
    steps = fuse(graph)
    kernels = default_kernels(steps, isa)
    if choices is not None:
        kernels.update((name, kernel) for name, kernel in choices.kernels.items() if name in kernels)
    kernels = _with_shared_lists(steps, kernels)
    values = {value.name: value for step in steps for value in (*step.inputs, step.result)}
    plan = Plan(graph, isa, steps, values, kernels, _needed_lists(steps, kernels), tuned=choices is not None)
    if plan.lists:
        plan.orders = channel_orders(steps, choices.orders if choices is not None else {}, plan.lists.keys())
    _place(plan)
    return plan


def default_kernels(steps: list[Step], isa: str) -> dict[str, Kernel]:
    """The untuned kernel of each step that kernels are chosen for, by its output.

    Raises :class:`EngineError` on a step that the engine cannot run.
    """
    found = ((step.output, kind_of(step).kernel(step, isa)) for step in steps)
    return {name: kernel for name, kernel in found if kernel is not None}


def _with_shared_lists(steps: list[Step], kernels: dict[str, Kernel]) -> dict[str, Kernel]:
    """All convolutions that read one value share its lists, in blocks of the smallest size that any of them needs."""
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


def _list_bytes(value: Value, group: int, block: int) -> int:
    # The size that Program::add_lists computes: entries with their indices, and the ends of the blocks.
    _, height, width = stored_shape(value)
    groups = -(-stored_channels(value) // (16 * group)) * 16
    return height * width * (groups * {1: 2, 2: 4, 4: 6}[group] + -(-groups // block) * 2)


def _place(plan: Plan) -> None:
    graph, values = plan.graph, plan.values
    written = {graph.inputs[0].name: -1} | {step.output: i for i, step in enumerate(plan.steps)}
    last = dict(written)
    last_list: dict[str, int] = {}
    for i, step in enumerate(plan.steps):
        kernel = plan.kernels.get(step.output)
        group = LIST_GROUPS.get(kernel.method) if kernel is not None else None
        if group is not None:
            last_list[lists_of(step.source, group)] = i
        for value in step.inputs:
            # If a value has lists, only these are read.
            if group is None or value.name != step.source or value == step.shortcut:
                last[value.name] = i
    last.update(dict.fromkeys(graph.outputs, len(plan.steps)))
    # The step that writes a value builds its lists.
    lists = {
        key: Lifetime(_list_bytes(values[name], group, block), written[name], last_list[key])
        for name, blocks in plan.lists.items()
        for group, block in blocks.items()
        for key in [lists_of(name, group)]
    }

    names = [*written, *lists]
    lifetimes = [Lifetime(stored_bytes(values[name]), written[name], last[name]) for name in written]
    lifetimes += lists.values()
    offsets, plan.arena_bytes = place(lifetimes)
    plan.slots = {
        name: Slot(name, life.nbytes, offset, life.first, life.last)
        for name, life, offset in zip(names, lifetimes, offsets, strict=True)
    }
