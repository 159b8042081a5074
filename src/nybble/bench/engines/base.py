"""The description of an engine, and the two ways of calling one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
#: Runs prepared batches; returns seconds and logits of each.
RunAll = Callable[[Sequence[Array]], tuple[list[float], list[Array]]]
#: Loads what ``worker.py`` describes; returns how to run it, and what is told of it.
Open = Callable[[dict[str, Any]], tuple[RunAll, dict[str, Any]]]
#: Makes INT8 candidates of the float ONNX model in a folder, calibrated on normalised (N, C, H, W) photos; one that
#: is there already is kept. Returns the path of each by name.
MakeInt8 = Callable[[Path, Path, Array], dict[str, Path]]


@dataclass(frozen=True)
class Engine:
    """An engine in the benchmark.

    Attributes
    ----------
    open : callable
        Runs in the engine's own process.
    packages : tuple of str
        Modules that must be installed.
    distribution : str
        Its version decides whether stored models are still valid.
    remedy : str
        How to install it.
    make_int8 : callable or None
    runs_float : bool
        Whether it also runs the float ONNX model.
    modes : tuple of str
        ``latency``, ``throughput``.
    layout : str
        Of the photos: ``nchw`` or ``nhwc``, float32 and normalised, or ``raw``, uint8 (N, H, W, C).
    """

    open: Open
    packages: tuple[str, ...] = ()
    distribution: str = ""
    remedy: str = "pip install 'nybble[bench]'"
    make_int8: MakeInt8 | None = None
    runs_float: bool = True
    modes: tuple[str, ...] = ("latency", "throughput")
    layout: str = "nchw"


def one_at_a_time(run: Callable[[Array], Array]) -> RunAll:
    """Make each call after the one before has returned."""

    def run_all(calls: Sequence[Array]) -> tuple[list[float], list[Array]]:
        seconds, logits = [], []
        for call in calls:
            begun = time.perf_counter()
            logits.append(run(call))
            seconds.append(time.perf_counter() - begun)
        return seconds, logits

    return run_all


def one_a_thread(run: Callable[[Array], Array], threads: int) -> RunAll:
    """Keep as many calls in progress as there are threads."""
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)

    def timed(call: Array) -> tuple[float, Array]:
        begun = time.perf_counter()
        logits = run(call)
        return time.perf_counter() - begun, logits

    def run_all(calls: Sequence[Array]) -> tuple[list[float], list[Array]]:
        answers = list(pool.map(timed, calls))
        return [seconds for seconds, _ in answers], [logits for _, logits in answers]

    return run_all
