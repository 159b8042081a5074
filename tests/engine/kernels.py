"""Forcing kernels: the planner's choice replaced by one that a test draws or names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hypothesis.strategies as st
import numpy as np
import pytest

from nybble import _native
from nybble.engine import plan
from nybble.engine.kernel import Kernel, window
from nybble.graph import Conv2d, Graph, Linear

#: Those for layers without groups.
METHODS = ("direct", "wide", "chained", "quad", "sparse", "sparse_quad", "winograd", "pair")
#: Channel pairs in a block of a list.
LIST_BLOCKS = (16, 32, 64)

Head = Conv2d | Linear
Choice = Callable[[Graph, Head, str], Kernel]


def list_blocks(graph: Graph, source: str) -> list[int]:
    """Blocks in which 16 bits hold the worst sum of every convolution that reads a value.

    The lists of a value are built once, for all of them.
    """
    readers = [node for node in graph.consumers()[source] if isinstance(node, Head)]
    largest = max(int(np.abs(node.weight.numpy().astype(np.int16)).max()) for node in readers)
    magnitude = graph.values[source].dtype.magnitude
    return [block for block in LIST_BLOCKS if 2 * block * magnitude * largest < 1 << 15]


def methods(graph: Graph, head: Head, isa: str) -> list[str]:
    """Methods that can run a convolution."""
    found = ["direct"]
    (source,) = head.inputs
    if isa == "scalar" or (isinstance(head, Conv2d) and head.groups > 1):
        return found if isa == "scalar" or source == graph.inputs[0].name else [*found, "grouped"]
    found += ["wide", "chained"]
    dtype = graph.values[source].dtype
    has_lists = not dtype.is_signed and source != graph.inputs[0].name
    if _native.quad_takes_any(isa) or (not dtype.is_signed and dtype.maximum <= 127):
        found.append("quad")
        if has_lists:
            found.append("sparse_quad")
    if has_lists and list_blocks(graph, source):
        found.append("sparse")
    if source != graph.inputs[0].name:
        most = (dtype.maximum - dtype.minimum) * int(np.abs(head.weight.numpy().astype(np.int16)).max())
        if 2 * most < 1 << 15:
            found.append("pair")
    place = window(graph, head)
    is_plain = (place.kernel, place.stride, place.dilation) == ((3, 3), (1, 1), (1, 1))
    if is_plain and has_lists and dtype.maximum <= 15 and int(np.abs(head.weight.numpy().astype(np.int16)).max()) <= 8:
        found.append("winograd")
    return found


def kernel(isa: str, method: str, blocks: list[int], list_block: int, block_outputs: int = 128, **cuts: int) -> Kernel:
    """A kernel of a method, its blocks cut down to what the method and the instruction set allow."""
    if method == "sparse_quad":
        most = min(block_outputs, _native.most_quad_outputs(isa))
        return Kernel(method, list_block=list_block, block_outputs=most, **cuts)
    if method == "winograd":
        return Kernel(method, block_outputs=min(block_outputs, _native.WINOGRAD_OUTPUTS), **cuts)
    if method == "sparse":
        allowed = [block for block in blocks if block <= list_block] or blocks[:1]
        return Kernel(method, list_block=max(allowed), block_outputs=block_outputs, **cuts)
    return Kernel(method, block_outputs=block_outputs, **cuts)


@contextmanager
def forced(choice: Choice) -> Iterator[None]:
    """Within this context, plans take the kernels that ``choice(graph, head, isa)`` returns."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "choose_kernel", choice)
        yield


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """Any legal kernel for each convolution: the method, and how outputs, pixels and weights are cut."""
    seed = draw(st.integers(0, 2**32 - 1))

    def choose(graph: Graph, head: Head, isa: str) -> Kernel:
        # The same for one convolution in every instruction set that has the method.
        random = np.random.default_rng([seed, *head.name.encode()])
        found = methods(graph, head, isa)
        method = found[int(random.integers(60)) % len(found)]
        return kernel(
            isa,
            method,
            list_blocks(graph, head.inputs[0]),
            LIST_BLOCKS[seed % len(LIST_BLOCKS)],
            block_outputs=32 * int(random.integers(1, 9)),
            tile_pixels=int(random.choice((1, 2, 3, 5, 16, 49, 63, 64))),
            visit_bytes=int(random.choice((1, 100, 1 << 10, 4 << 10, 24 << 10))),
        )

    return choose


def always(method: str, *, list_block: int = 64, **cuts: int) -> Choice:
    """One method wherever it can run, with the same cuts; elsewhere the direct one."""

    def choose(graph: Graph, head: Head, isa: str) -> Kernel:
        if method not in methods(graph, head, isa):
            return Kernel("direct")
        return kernel(isa, method, list_blocks(graph, head.inputs[0]), list_block, **cuts)

    return choose
