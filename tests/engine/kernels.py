"""Forcing kernels: the planner's choice replaced by one that a test draws or names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hypothesis.strategies as st
import numpy as np
import pytest

from nybble import _native
from nybble.engine import plan
from nybble.engine.kernel import Kernel
from nybble.engine.rows import layer, rows
from nybble.graph import Conv2d, Graph, Linear

#: The rows of every instruction set of this build, by their methods.
METHODS = tuple(dict.fromkeys(row.name for isa in _native.built_isas() for row in _native.kernel_rows(isa)))
#: Groups in a block of a list, where nothing else bounds them.
LIST_BLOCKS = (16, 32, 64)

Head = Conv2d | Linear
Choice = Callable[[Graph, Head, str], Kernel]


def asked(graph: Graph, head: Head) -> _native.ConvLayer:
    """A layer with the bounds of the weights that it has, as the executor asks about it: not those of their type."""
    return layer(graph, head, int(np.abs(head.weight.numpy().astype(np.int16)).max()))


def list_blocks(graph: Graph, source: str, isa: str, method: str) -> list[int]:
    """Blocks of lists that a method may read for every convolution of a value: they are built once, for all of them."""
    row = rows(isa)[method]
    readers = [asked(graph, node) for node in graph.consumers()[source] if isinstance(node, Head)]
    return [block for block in LIST_BLOCKS if all(block in row.list_blocks(reader) for reader in readers)]


def methods(graph: Graph, head: Head, isa: str) -> list[str]:
    """Methods that can run a convolution: more than the planner would choose from."""
    found = [name for name, row in rows(isa).items() if row.why_not(asked(graph, head)) is None]
    return [name for name in found if not rows(isa)[name].list_group or list_blocks(graph, head.inputs[0], isa, name)]


def kernel(graph: Graph, head: Head, isa: str, method: str, list_block: int, **cuts: int) -> Kernel:
    """A kernel of a method, its blocks cut down to what its row allows."""
    row = rows(isa)[method]
    blocks = list_blocks(graph, head.inputs[0], isa, method) if row.list_group else []
    allowed = [block for block in blocks if block <= list_block] or blocks[:1]
    outputs = min(cuts.pop("block_outputs", 128), row.most_outputs)
    return Kernel(method, block_outputs=outputs, list_block=max(allowed, default=0), **cuts)


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
            graph,
            head,
            isa,
            method,
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
        return kernel(graph, head, isa, method, list_block, **cuts)

    return choose
