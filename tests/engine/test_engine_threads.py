"""Engines among threads, processes and other engines; what they hold and give back."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from agreement import ISAS, assert_same

from nybble.backends.cpu.choices import Choices, convolutions, methods
from nybble.backends.cpu.kernel import LIST_GROUPS, Kernel
from nybble.engine import Engine
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet

sanitized = pytest.mark.skipif("NYBBLE_SANITIZED" in os.environ, reason="not under the sanitizers")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bottleneck_resnet(blocks=(1,), width=8, classes=7, image=32, seed=3)


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(5).integers(-128, 128, (12, 3, 32, 32)).astype(np.int8)


@pytest.fixture(scope="module")
def expected(graph: Graph, images: Array) -> Array:
    return interpret(graph, images)["scale"]


def test_more_threads_than_there_is_work(graph: Graph, images: Array, expected: Array) -> None:
    with Engine(graph, threads=7) as engine:
        for count in (1, 12):
            assert_same(engine.run_integer(images[:count]), expected[:count])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize(
    "method",
    ["direct", "chained", "quad", "sparse", "sparse_quad", "sparse_single", "winograd", "inner", "winograd_quad"],
)
def test_threads_share_tiles_whose_lists_one_of_them_builds(isa: str, threads: int, method: str) -> None:
    """Values in several blocks of outputs and many small tiles, run by all threads together again and again."""
    graph = bottleneck_resnet(blocks=(1, 1), width=24, classes=7, image=40, seed=6)
    images = np.random.default_rng(7).integers(-128, 128, (3, 3, 40, 40)).astype(np.int8)
    expected = interpret(graph, images)["scale"]
    # Layers that the method cannot run keep their default, which reads the lists that the method's layers build.
    kernels = {
        name: Kernel(method, block_outputs=32, tile_pixels=3, list_block=16 if method in LIST_GROUPS else 0)
        for name, step in convolutions(graph).items()
        if method in methods(step, isa)
    }
    if not kernels:
        pytest.skip(f"{isa} has no {method} kernel")
    with Engine(graph, threads=threads, isa=isa, choices=Choices(kernels)) as engine:
        for i in [0, 1, 2] * 20:
            assert_same(engine.run_integer(images[i : i + 1]), expected[i : i + 1])


def test_several_engines_take_turns(graph: Graph, images: Array, expected: Array) -> None:
    other = bottleneck_resnet(blocks=(1, 1), width=5, classes=3, image=32, seed=4)
    answers = interpret(other, images)["scale"]
    engines = [(Engine(which, threads=2, isa=isa), which) for isa in ISAS for which in (graph, other)]
    for _ in range(3):
        for engine, which in engines:
            assert_same(engine.run_integer(images), expected if which is graph else answers)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_engine_serves_several_threads(graph: Graph, images: Array, expected: Array, threads: int) -> None:
    engine = Engine(graph, threads=threads)

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(10):
            some = random.integers(0, len(images), random.integers(1, 12))
            if random.random() < 0.3:
                assert_same(engine.tap(images[some])["scale"], expected[some])
            else:
                assert_same(engine.run_integer(images[some]), expected[some])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(8)))


def test_other_python_threads_run_meanwhile(graph: Graph) -> None:
    """The interpreter lock is released: a thread that counts goes on counting during one long run."""
    engine = Engine(graph, threads=1)
    many = np.zeros((4000, 3, 32, 32), np.int8)
    counted, running = [], threading.Event()

    def count() -> None:
        while not running.is_set():
            counted.append(time.monotonic())
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    start = time.monotonic()
    engine.run_integer(many)
    end = time.monotonic()
    running.set()
    counter.join()
    # Away from the checks in Python at either end.
    third = (end - start) / 3
    assert any(start + third < moment < end - third for moment in counted)


def test_engines_come_and_go_while_others_run(graph: Graph, images: Array, expected: Array) -> None:
    def live(seed: int) -> None:
        for turn in range(6):
            engine = Engine(graph, threads=1 + (seed + turn) % 3)
            assert_same(engine.run_integer(images), expected)
            if turn % 2:
                engine.close()
            del engine

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(live, range(4)))


def test_the_first_engines_of_a_process_may_be_made_at_once() -> None:
    """In a process of its own, where nothing has been registered yet."""
    code = """if True:
        from concurrent.futures import ThreadPoolExecutor
        from nybble.engine import Engine
        from nybble.synthetic import bottleneck_resnet
        graph = bottleneck_resnet(blocks=(1,), width=4, classes=3, image=32, seed=1)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: Engine(graph, threads=1), range(8)))
    """
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, result.stderr) == (0, "")


@contextmanager
def suppress_closed() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        assert str(error) == "the engine is closed"


def test_an_engine_may_be_closed_or_dropped_during_a_run(graph: Graph, images: Array, expected: Array) -> None:
    def run(engine: Engine, results: list[Array]) -> None:
        # A run that has not begun when the engine is closed is refused.
        with suppress_closed():
            results.append(engine.run_integer(np.tile(images, (20, 1, 1, 1))))

    for close in (True, False):
        engine = Engine(graph, threads=2)
        results: list[Array] = []
        runner = threading.Thread(target=run, args=(engine, results))
        runner.start()
        if close:
            # Whether the run has begun or not, it ends in the answer or in the clear error of a closed engine.
            while not results and runner.is_alive() and engine._executable._built is None:
                time.sleep(0)
            time.sleep(0.002)
            engine.close()
        del engine
        gc.collect()
        runner.join(60)
        assert not runner.is_alive()
        for result in results:
            assert_same(result, np.tile(expected, (20, 1)))


def in_child(work: object) -> int:
    """Run a function in a forked child and return its exit status; a child that hangs is ended and reported."""
    with warnings.catch_warnings():
        # Newer Pythons warn of forks in a process with threads: that this works is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            work()  # type: ignore[operator]
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the forked child hangs")


@sanitized
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("threads", [1, 3])
def test_an_engine_works_in_a_forked_child(graph: Graph, images: Array, expected: Array, threads: int) -> None:
    engine = Engine(graph, threads=threads)
    unused = Engine(graph, threads=threads)
    engine.run_integer(images)

    def use() -> None:
        for _ in range(3):
            assert_same(engine.run_integer(images), expected)
        engine.close()
        unused.close()
        assert_same(Engine(graph, threads=threads).run_integer(images), expected)

    assert in_child(use) == 0
    # The parent's threads are unharmed.
    assert_same(engine.run_integer(images), expected)
    assert in_child(unused.close) == 0
    assert_same(unused.run_integer(images), expected)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@sanitized
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow(graph: Graph, images: Array) -> None:
    """Neither by runs nor by engines that come and go."""
    engine = Engine(graph, threads=2)

    def work() -> None:
        for _ in range(150):
            engine.run_integer(images)
            engine.tap(images[:1])
        for _ in range(100):
            with Engine(graph, threads=2) as short:
                short.run_integer(images[:1])

    work()
    gc.collect()
    before = resident_bytes()
    work()
    gc.collect()
    # An engine of this network holds 600 KB, so that a leak of a hundred would be ten times the bound.
    assert resident_bytes() - before < 6 << 20
