"""The plan of a network: fused steps, a kernel for each, and every value's place in one arena."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nybble import _native
from nybble.engine.arena import Lifetime, place
from nybble.engine.fuse import Step, fuse
from nybble.engine.order import Order, channel_orders
from nybble.graph import Conv2d, DType, Graph, Linear
from nybble.graph.nodes import Padding, Pair

if TYPE_CHECKING:
    from nybble.engine.choices import Choices

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
    sums), ``sparse_quad`` (lists of non-zero groups of four, 32-bit sums), ``wide`` (32-bit sums, any types) or
    ``quad`` (32-bit sums, four bytes at a time). The quads take unsigned inputs of at most 127, or any where
    the instruction set has dot products; the sparse methods take unsigned inputs.
    ``block_outputs`` output channels are computed together, for ``tile_pixels`` pixels at a time;
    ``visit_bytes`` of weights are kept in L1 while they pass; ``list_block`` groups make a block of a list.
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


#: Channels in a group of the lists that a method reads.
LIST_GROUPS = {"sparse": 2, "sparse_quad": 4}


def lists_of(name: str, group: int) -> str:
    """Name of the slot that holds a value's lists of non-zero groups of two or four channels."""
    return f"{name}#{'pairs' if group == 2 else 'quads'}"


def make_plan(graph: Graph, isa: str, choices: Choices | None = None) -> Plan:
    """Fuse, choose kernels and place values; ``choices`` go before the defaults where they name a step or value.

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
    if choices is not None:
        kernels.update((name, kernel) for name, kernel in choices.kernels.items() if name in kernels)
    plan = Plan(graph, isa, steps, _with_shared_lists(steps, kernels), tuned=choices is not None)
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


def window(graph: Graph, head: Conv2d | Linear) -> Window:
    """Geometry of a convolution or linear layer."""
    if isinstance(head, Linear):
        shape = graph.values[head.inputs[0]].shape
        return Window(Pair(*shape[1:]) if len(shape) == 3 else Pair(1, 1))
    return Window(head.kernel_size, head.stride, head.padding, head.dilation, head.groups)


def choose_kernel(graph: Graph, head: Conv2d | Linear, isa: str) -> Kernel:
    """The untuned default for a convolution or linear layer on an instruction set."""
    if isa == "scalar" or not can_vectorize(graph, head):
        return Kernel("direct")
    source = graph.values[head.inputs[0]]
    has_dot_products = _native.quad_takes_any(isa)
    # Sums of 64 outputs are two vectors, too few to hide the ends of lists: dense dot products are faster there.
    is_narrow = has_dot_products and head.weight.shape[0] <= 64
    if not is_narrow and not source.dtype.is_signed and not _is_tight(graph, head.inputs[0]):
        # Pairs of a list block whose worst sum fits 16 bits, whatever the weights of this type are.
        pairs = _native.list_block_pairs(source.dtype.maximum, head.weight.dtype.magnitude)
        if pairs:
            return Kernel("sparse", block_outputs=192 if isa == "avx2" else 256, list_block=pairs)
    if not has_dot_products and (source.dtype.is_signed or source.dtype.maximum > 127):
        return Kernel("wide", block_outputs=64)
    is_image = len(source.shape) == 3 and source.shape[1] * source.shape[2] > 1
    # A dot product costs one instruction: skipping zeros pays where a list is read often and quads are rarely full.
    # Without dot products it costs three, and skipping always pays.
    is_worth_lists = not has_dot_products or (window(graph, head).kernel != (1, 1) and source.shape[0] >= 256)
    if is_image and is_worth_lists and not source.dtype.is_signed and not _is_tight(graph, head.inputs[0]):
        return Kernel("sparse_quad", block_outputs=64 if isa == "avx2" else 128, list_block=64)
    return Kernel("quad", block_outputs=128 if is_image else 32)


def can_vectorize(graph: Graph, head: Conv2d | Linear) -> bool:
    """Whether any method but the direct one may run a layer."""
    return window(graph, head).groups == 1 and _staged_bytes(graph, head) <= _MOST_STAGED


#: Bytes of input rows that a thread may hold for one output row; windows with holes can ask for gigabytes.
_MOST_STAGED = 64 << 20


def _staged_bytes(graph: Graph, head: Conv2d | Linear) -> int:
    """What the methods with 32-bit sums copy for one task, at most."""
    place = window(graph, head)
    channels = stored_channels(graph, head.inputs[0])
    reach = 63 * place.stride.columns + (place.kernel.columns - 1) * place.dilation.columns + 1
    return 2 * place.kernel.rows * reach * channels


def _is_tight(graph: Graph, name: str) -> bool:
    """Graph inputs are stored without channel padding."""
    return any(entry.name == name for entry in graph.inputs)


def stored_shape(graph: Graph, name: str) -> tuple[int, int, int]:
    """(channels, height, width) of a value; vectors are images of one pixel."""
    shape = graph.values[name].shape
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def stored_channels(graph: Graph, name: str) -> int:
    """Channels from pixel to pixel, with the padding."""
    channels = stored_shape(graph, name)[0]
    return channels if _is_tight(graph, name) else -(-channels // _native.CHANNEL_ALIGN) * _native.CHANNEL_ALIGN


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
    lists: dict[str, Lifetime] = {}
    for i, step in enumerate(plan.steps):
        for name in step.reads:
            last[name] = i
        kernel = plan.kernels.get(step.output)
        if kernel is not None and (group := LIST_GROUPS.get(kernel.method)):
            key = lists_of(step.source, group)
            first = lists[key].first if key in lists else i
            lists[key] = Lifetime(_list_bytes(graph, step.source, group, kernel.list_block), first, i)
    last[graph.outputs[0]] = len(plan.steps)

    names = [*written, *lists]
    lifetimes = [Lifetime(_value_bytes(graph, name), written[name], last[name]) for name in written]
    lifetimes += lists.values()
    offsets, plan.arena_bytes = place(lifetimes)
    plan.slots = {
        name: Slot(name, life.nbytes, offset, life.first, life.last)
        for name, life, offset in zip(names, lifetimes, offsets, strict=True)
    }
