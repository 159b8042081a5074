"""The plan of a network: fused steps, a kernel for each, and every value's place in one arena."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from nybble import _native
from nybble.engine.arena import Lifetime, place
from nybble.engine.fuse import Step, fuse
from nybble.engine.order import Order, channel_orders
from nybble.graph import Conv2d, DType, Graph, Linear
from nybble.graph.nodes import Padding, Pair

#: How values of each type are stored while a network runs.
ELEMENTS = {
    DType.U4: "u8",
    DType.U7: "u8",
    DType.U8: "u8",
    DType.S4: "s8",
    DType.S8: "s8",
    DType.U31: "s32",
    DType.S32: "s32",
    DType.F32: "f32",
}


@dataclass(frozen=True)
class Kernel:
    """How a convolution runs.

    ``method`` is ``direct`` (any types and groups), ``sparse`` (lists of non-zero channel pairs, 16-bit
    sums), ``wide`` (32-bit sums, any types) or ``quad`` (32-bit sums, four bytes at a time: unsigned inputs
    of at most 127, or any where the instruction set has dot products). ``block_outputs`` output channels
    are computed together, for ``tile_pixels`` pixels at a time; ``visit_bytes`` of weights are kept in L1
    while they pass; ``list_block`` channel pairs make a block of a list.
    """

    method: str
    block_outputs: int = 256
    tile_pixels: int = 64
    visit_bytes: int = 24 << 10
    list_block: int = 0


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution; a linear layer is one whose window is its whole input."""

    kernel: Pair
    stride: Pair = Pair(1, 1)
    padding: Padding = Padding()
    dilation: Pair = Pair(1, 1)
    groups: int = 1


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
    """What the engine runs. ``print(plan)`` shows a line a step.

    Attributes
    ----------
    steps : list of Step
    kernels : dict
        Kernel of each convolution step, by the step's output.
    slots : dict
        The place of every stored value by its name, and of its lists by ``name + "#pairs"``; bytes are
        those of one image.
    arena_bytes : int
        Memory of all values of one image.
    orders : dict
        Channel order of stored values, by name: position to the graph's channel. Others keep the graph's.
    """

    graph: Graph
    isa: str
    steps: list[Step]
    kernels: dict[str, Kernel]
    slots: dict[str, Slot] = field(default_factory=dict)
    arena_bytes: int = 0
    orders: dict[str, Order] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.isa}, {len(self.steps)} steps, arena {self.arena_bytes / 1024:.0f} KiB an image"]
        for step in self.steps:
            kernel = self.kernels.get(step.output)
            how = f"{kernel.method} x{kernel.block_outputs}" if kernel else step.kind
            names = " + ".join(node.name for node in step.nodes)
            slot = self.slots[step.output]
            lines.append(f"{names}: {', '.join(step.reads)} -> {self.graph.values[step.output]} [{how}] @{slot.offset}")
        return "\n".join(lines)


def lists_of(name: str) -> str:
    """Name of the slot that holds the pair lists of a value."""
    return f"{name}#pairs"


def make_plan(graph: Graph, isa: str) -> Plan:
    """Fuse, choose kernels and place values.

    Raises ``ValueError`` where the engine cannot run the graph: more than one input or output.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"the engine runs networks of one input and one output; this one has {len(graph.inputs)} and "
            f"{len(graph.outputs)}"
        )
    steps = fuse(graph)
    kernels = {
        step.output: choose_kernel(graph, step.head, isa) for step in steps if isinstance(step.head, Conv2d | Linear)
    }
    plan = Plan(graph, isa, steps, _with_shared_lists(steps, kernels))
    if any(kernel.method == "sparse" for kernel in kernels.values()):
        plan.orders = channel_orders(graph, steps)
    _place(plan)
    return plan


def _with_shared_lists(steps: list[Step], kernels: dict[str, Kernel]) -> dict[str, Kernel]:
    """All convolutions that read one value share its lists: in blocks of the smallest that any needs."""
    blocks: dict[str, int] = {}
    for step in steps:
        if (kernel := kernels.get(step.output)) is not None and kernel.method == "sparse":
            blocks[step.source] = min(kernel.list_block, blocks.get(step.source, kernel.list_block))
    return {
        step.output: replace(kernels[step.output], list_block=blocks.get(step.source, 0))
        for step in steps
        if step.output in kernels
    }


def window(graph: Graph, head: Conv2d | Linear) -> Window:
    """Geometry of a convolution or linear layer."""
    if isinstance(head, Linear):
        shape = graph.values[head.inputs[0]].shape
        return Window(Pair(*shape[1:]) if len(shape) == 3 else Pair(1, 1))
    return Window(head.kernel_size, head.stride, head.padding, head.dilation, head.groups)


def choose_kernel(graph: Graph, head: Conv2d | Linear, isa: str) -> Kernel:
    """The untuned default for a convolution or linear layer on an instruction set."""
    if isa == "scalar" or window(graph, head).groups > 1:
        return Kernel("direct")
    source = graph.values[head.inputs[0]]
    if not source.dtype.is_signed and not _is_tight(graph, head.inputs[0]):
        # Pairs of a list block whose worst sum fits 16 bits, whatever the weights of this type are.
        pairs = _native.list_block_pairs(source.dtype.maximum, head.weight.dtype.magnitude)
        if pairs:
            return Kernel("sparse", block_outputs=192 if isa == "avx2" else 256, list_block=pairs)
    if _native.quad_takes_any(isa) or (not source.dtype.is_signed and source.dtype.maximum <= 127):
        return Kernel("quad", block_outputs=64)
    return Kernel("wide", block_outputs=64)


def _is_tight(graph: Graph, name: str) -> bool:
    """Graph inputs are stored without channel padding."""
    return any(entry.name == name for entry in graph.inputs)


def stored_shape(graph: Graph, name: str) -> tuple[int, int, int]:
    """(channels, height, width) of a value; vectors are images of one pixel."""
    shape = graph.values[name].shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def _value_bytes(graph: Graph, name: str) -> int:
    channels, height, width = stored_shape(graph, name)
    if not _is_tight(graph, name):
        channels = -(-channels // _native.CHANNEL_ALIGN) * _native.CHANNEL_ALIGN
    return channels * height * width * (1 if ELEMENTS[graph.values[name].dtype].endswith("8") else 4)


def _list_bytes(graph: Graph, name: str, block: int) -> int:
    channels, height, width = stored_shape(graph, name)
    pairs = -(-channels // _native.CHANNEL_ALIGN) * _native.CHANNEL_ALIGN // 2
    return height * width * (pairs * 4 + -(-pairs // block) * 2)


def _place(plan: Plan) -> None:
    graph = plan.graph
    written = {graph.inputs[0].name: -1} | {step.output: i for i, step in enumerate(plan.steps)}
    last = dict(written)
    list_first: dict[str, int] = {}
    list_last: dict[str, int] = {}
    list_block: dict[str, int] = {}
    for i, step in enumerate(plan.steps):
        for name in step.reads:
            last[name] = i
        kernel = plan.kernels.get(step.output)
        if kernel is not None and kernel.method == "sparse":
            list_first.setdefault(step.source, i)
            list_last[step.source] = i
            list_block[step.source] = kernel.list_block
    last[graph.outputs[0]] = len(plan.steps)

    names = list(written) + [lists_of(name) for name in list_first]
    lifetimes = [Lifetime(_value_bytes(graph, name), written[name], last[name]) for name in written]
    lifetimes += [
        Lifetime(_list_bytes(graph, name, list_block[name]), list_first[name], list_last[name]) for name in list_first
    ]
    offsets, plan.arena_bytes = place(lifetimes)
    plan.slots = {
        name: Slot(name, life.nbytes, offset, life.first, life.last)
        for name, life, offset in zip(names, lifetimes, offsets, strict=True)
    }
