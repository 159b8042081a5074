"""The comparison of the engine with the reference: every stored value, every batch size, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

import nybble.backends.cpu.executable as module
from nybble import _native
from nybble.engine import Engine
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.reference import interpret
from row_record import compared

#: All that run here, those that are there for tests too.
ISAS = _native.runnable_isas()
#: None, one, two, and more than run together: whole groups of images for each thread, and some left over.
BATCHES = (0, 1, 2, 9)


def assert_same(actual: Array, expected: Array, what: object = "") -> None:
    """Equal dtype, shape and bits: floats too."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    if actual.tobytes() != expected.tobytes():
        wrong = np.argwhere(actual != expected)
        place = tuple(wrong[0]) if len(wrong) else ()
        raise AssertionError(
            f"{what}: {len(wrong)} of {actual.size} differ, first at {place}: {actual[place]} for {expected[place]}"
        )


def assert_agrees(
    graph: Graph,
    images: Array,
    threads: Iterable[int] = (1,),
    isas: Iterable[str] | None = None,
    together: int | None = None,
) -> None:
    """Run a graph in every instruction set with each number of threads, in batches of :data:`BATCHES`.

    ``together`` images go through the network in one piece; by default as many as the engine chooses.
    """
    expected = interpret(graph, images, keep=None)
    with pytest.MonkeyPatch.context() as patch:
        if together is not None:
            patch.setattr(module, "BATCH_IMAGES", together)
        for isa in ISAS if isas is None else isas:
            for count in threads:
                with Engine(graph, threads=count, isa=isa) as engine:
                    assert_engine_agrees(engine, images, expected)


def assert_engine_agrees(engine: Engine, images: Array, expected: dict[str, Array]) -> None:
    """Compare one engine's steps and results with the reference's values."""
    what = f"{engine!r}\n{engine.plan}\n"
    tapped = engine.tap(images)
    for name, value in tapped.items():
        assert_same(value, expected[name], f"{what}value {name}")
    for count in BATCHES:
        if count <= len(images):
            result = engine.run_integer(images[:count])
            assert_same(result, expected[engine.graph.outputs[0]][:count], f"{what}batch of {count}")
    compared(engine)
