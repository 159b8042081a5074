"""Forcing kernels: the planner's choice replaced by one that a test draws or names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hypothesis.strategies as st
import numpy as np
import pytest

from nybble import _native
from nybble.backends.cpu import planner
from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.rows import layer, rows
from nybble.lower import Conv, Step

#: The rows of every instruction set of this build, by their methods.
METHODS = tuple(dict.fromkeys(row.name for isa in _native.built_isas() for row in _native.kernel_rows(isa)))
#: Groups in a block of a list, where nothing else bounds them.
LIST_BLOCKS = (16, 32, 64)

Choice = Callable[[list[Step], Step, str], Kernel]


def asked(step: Step) -> _native.ConvLayer:
    """A layer with the bounds of the weights that it has, as the executor asks about it: not those of their type."""
    weight = step.body_as(Conv).weight.numpy().astype(np.int16)
    least, largest = min(0, int(weight.min())), max(0, int(weight.max()))
    return layer(step, max(-least, largest), (least, largest))


def list_blocks(steps: Sequence[Step], source: str, isa: str, method: str) -> list[int]:
    """Blocks of lists that a method may read for every convolution of a value: they are built once, for all of them."""
    row = rows(isa)[method]
    readers = [asked(step) for step in steps if step.source == source and step.conv is not None]
    return [block for block in LIST_BLOCKS if all(block in row.list_blocks(reader) for reader in readers)]


def methods(steps: Sequence[Step], step: Step, isa: str) -> list[str]:
    """Methods that can run a convolution: more than the planner would choose from."""
    found = [name for name, row in rows(isa).items() if row.why_not(asked(step)) is None]
    return [name for name in found if not rows(isa)[name].list_group or list_blocks(steps, step.source, isa, name)]


def kernel(steps: Sequence[Step], step: Step, isa: str, method: str, list_block: int, **cuts: int) -> Kernel:
    """A kernel of a method, its blocks cut down to what its row allows."""
    row = rows(isa)[method]
    blocks = list_blocks(steps, step.source, isa, method) if row.list_group else []
    allowed = [block for block in blocks if block <= list_block] or blocks[:1]
    outputs = min(cuts.pop("block_outputs", 128), row.most_outputs)
    return Kernel(method, block_outputs=outputs, list_block=max(allowed, default=0), **cuts)


@contextmanager
def forced(choice: Choice) -> Iterator[None]:
    """Within this context, plans take the kernels that ``choice(steps, step, isa)`` returns."""

    def kernels_of(steps: list[Step], isa: str) -> dict[str, Kernel]:
        return {step.output: choice(steps, step, isa) for step in steps if step.conv is not None}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "default_kernels", kernels_of)
        yield


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    """Any legal kernel for each convolution: the method, and how outputs, pixels and weights are cut."""
    seed = draw(st.integers(0, 2**32 - 1))

    def choose(steps: list[Step], step: Step, isa: str) -> Kernel:
        # The same for one convolution in every instruction set that has the method.
        random = np.random.default_rng([seed, *step.head.name.encode()])
        found = methods(steps, step, isa)
        method = found[int(random.integers(60)) % len(found)]
        return kernel(
            steps,
            step,
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

    def choose(steps: list[Step], step: Step, isa: str) -> Kernel:
        if method not in methods(steps, step, isa):
            return Kernel("direct")
        return kernel(steps, step, isa, method, list_block, **cuts)

    return choose
