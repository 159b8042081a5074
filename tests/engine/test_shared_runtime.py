"""What the engines of a process share: threads, memory of runs, equal weights; and what they give back."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_same
from hypothesis import given, settings
from long_runs import answers_beside_a_long_run, wait_until_it_runs

from nybble import _native
from nybble.backends.cpu.turns import limit_turn
from nybble.engine import Engine
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

sanitized = pytest.mark.skipif("NYBBLE_SANITIZED" in os.environ, reason="not under the sanitizers")
#: What native/core/thread_pool.cpp has.
TURN = 50_000_000


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    return [
        bottleneck_resnet(blocks=(1,), width=8, classes=7, image=32, seed=3),
        bottleneck_resnet(blocks=(1, 1), width=5, classes=3, image=40, seed=4),
    ]


@pytest.fixture(scope="module")
def images(graphs: list[Graph]) -> list[Array]:
    random = np.random.default_rng(5)
    return [random.integers(-128, 128, (11, *graph.inputs[0].shape)).astype(np.int8) for graph in graphs]


@pytest.fixture(scope="module")
def expected(graphs: list[Graph], images: list[Array]) -> list[Array]:
    return [interpret(graph, some)["scale"] for graph, some in zip(graphs, images, strict=True)]


@pytest.fixture
def passing() -> Iterator[None]:
    """Runs that others wait for pass their threads on at every step."""
    _native.set_turn_nanoseconds(0)
    yield
    _native.set_turn_nanoseconds(TURN)


@pytest.mark.usefixtures("passing")
@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.sampled_from(ISAS)), min_size=2, max_size=4),
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(1, 11)), min_size=1, max_size=6), min_size=2, max_size=4
    ),
    st.booleans(),
)
def test_callers_of_several_engines_get_the_same_answers(
    graphs: list[Graph],
    images: list[Array],
    expected: list[Array],
    drawn: list[tuple[int, int, str]],
    callers: list[list[tuple[int, int]]],
    is_by_thread: bool,
) -> None:
    """Whatever runs beside them, with runs that are interrupted at every step, all or those of some threads."""
    _native.set_turn_nanoseconds(TURN if is_by_thread else 0)
    engines = [(which, Engine(graphs[which], threads=threads, isa=isa)) for which, threads, isa in drawn]

    def call(calls: list[tuple[int, int]]) -> None:
        if is_by_thread and calls[0][1] % 2:
            limit_turn(0.0)
        for number, count in calls:
            which, engine = engines[number % len(engines)]
            assert_same(engine.run_integer(images[which][:count]), expected[which][:count])

    with ThreadPoolExecutor(len(callers)) as pool:
        list(pool.map(call, callers))
    for _, engine in engines:
        engine.close()


def test_equal_weights_are_kept_once(graphs: list[Graph], images: list[Array], expected: list[Array]) -> None:
    gc.collect()
    before = _native.kept_weight_bytes()
    first = Engine(graphs[0], threads=1)
    one = _native.kept_weight_bytes() - before
    assert one > 0
    second = Engine(graphs[0], threads=1)
    assert _native.kept_weight_bytes() - before == one
    other = Engine(graphs[1], threads=1)
    assert _native.kept_weight_bytes() - before > one
    # The second goes on with what the first has brought.
    first.close()
    assert_same(second.run_integer(images[0]), expected[0])
    other.close()
    assert _native.kept_weight_bytes() - before == one
    second.close()
    assert _native.kept_weight_bytes() == before


def test_threads_are_shared_and_given_back(graphs: list[Graph]) -> None:
    gc.collect()
    before = _native.worker_threads()
    engines = [Engine(graphs[0], threads=before + 3) for _ in range(4)]
    assert _native.worker_threads() == before + 2
    for engine in engines[1:]:
        engine.close()
    assert _native.worker_threads() == before + 2
    engines[0].close()
    assert _native.worker_threads() == before


@pytest.mark.usefixtures("passing")
def test_a_long_run_lets_another_engine_go_before(graphs: list[Graph], images: list[Array]) -> None:
    """A photo does not wait for the end of a batch of thousands."""
    threads = max(2, len(os.sched_getaffinity(0)))
    long, short = (Engine(graph, threads=threads) for graph in graphs)

    def answers_beside(many: Array) -> int:
        runner = threading.Thread(target=long.run_integer, args=(many,))
        runner.start()
        wait_until_it_runs(runner)
        answered = 0
        while runner.is_alive():
            short.run_integer(images[1][:1])
            answered += 1
            time.sleep(0.001)
        return answered

    # Without turns the first photo would be answered after the whole batch.
    assert answers_beside_a_long_run(images[0], answers_beside) >= 3


def test_patient_runs_wait_for_each_other_and_let_others_go_before(graphs: list[Graph], images: list[Array]) -> None:
    """Runs with turns of their own pass the threads on to those without, and to one another when all runs do."""
    threads = max(2, len(os.sched_getaffinity(0)))
    long, patient, short = (Engine(graph, threads=threads) for graph in (graphs[0], graphs[1], graphs[1]))

    def answers_beside(many: Array) -> int:
        # Long enough that the first has noted its end before this one has.
        some = np.tile(images[1], (len(many) // len(images[1]), 1, 1, 1))
        ended: list[str] = []

        def run(name: str, engine: Engine, photos: Array) -> None:
            limit_turn(0.0)
            engine.run_integer(photos)
            ended.append(name)

        first = threading.Thread(target=run, args=("long", long, many))
        second = threading.Thread(target=run, args=("patient", patient, some))
        first.start()
        wait_until_it_runs(first)
        second.start()
        answered = 0
        while first.is_alive():
            short.run_integer(images[1][:1])
            answered += 1
            time.sleep(0.001)
        second.join()
        assert ended == ["long", "patient"]
        return answered

    _native.set_turn_nanoseconds(10**15)
    try:
        assert answers_beside_a_long_run(images[0], answers_beside) >= 3
    finally:
        _native.set_turn_nanoseconds(TURN)
        for engine in (long, patient, short):
            engine.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@sanitized
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_unloading_gives_memory_back() -> None:
    """``NYBBLE_CYCLES=1000`` for the long form."""
    from nybble.engine import load

    noise = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)

    def cycle() -> None:
        with load("efficientnet-lite0", threads=2) as engine:
            engine(noise)

    for _ in range(5):
        cycle()
    gc.collect()
    before = resident_bytes()
    for _ in range(int(os.environ.get("NYBBLE_CYCLES", "50"))):
        cycle()
    gc.collect()
    assert resident_bytes() - before < 5 << 20
