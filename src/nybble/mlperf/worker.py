"""The process that runs LoadGen: an error or an end from outside ends it at once, whatever LoadGen waits for.

``python -m nybble.mlperf.worker`` reads one :class:`nybble.mlperf.job.Job` as a line of JSON and answers lines of JSON:
``{"done": photos answered}`` while it runs, then ``{"result": {...}}``, ``{"error": text}`` or, where that is
a bug in nybble, ``{"crash": traceback}``. It ends when its
standard input does, so that no run outlives the command that started it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nybble.graph.errors import NybbleError
from nybble.graph.types import Array
from nybble.mlperf import extra
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.job import ESTIMATE, Job
from nybble.mlperf.store import Rows, map_samples
from nybble.mlperf.sut import Answerer, Batcher, Photos, Run

#: Seconds between two reports.
_PACE = 0.25
#: Timed runs of each batch size at least, and seconds to spend on it; fewer where there are many sizes.
_RUNS, _SECONDS, _SECONDS_OF_MANY = 3, 0.5, 0.1
_SAYING = threading.Lock()


def main() -> None:
    """Run the job on standard input."""
    job = Job.read(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _say({"result": _estimate(job) if job.task == ESTIMATE else _run(job)})
    except BaseException as error:
        _fail(error)
    os._exit(0)  # The result is out; nothing that LoadGen or a library does at exit may spoil it.


def batch_seconds(
    run: Run, samples: Array | Rows, sizes: Sequence[int], least: float = _SECONDS, most: float = math.inf
) -> list[float]:
    """Median seconds of a batch of each size, on the first photos, up to the first that takes more than ``most``."""
    seconds: list[float] = []
    for size in sizes:
        photos = samples[[i % len(samples) for i in range(size)]]
        run(photos)
        times: list[float] = []
        while len(times) < _RUNS or sum(times) < least:
            begun = time.perf_counter()
            run(photos)
            times.append(time.perf_counter() - begun)
        seconds.append(statistics.median(times))
        if seconds[-1] > most:
            break
    return seconds


def _open(job: Job) -> tuple[Any, Array | Rows]:
    import nybble

    engine = nybble.load(job.model, threads=job.threads, device=job.device)
    samples = map_samples(Path(job.samples), job.shape)
    return engine, samples if job.rows is None else Rows(samples, job.rows)


def _about(engine: Any) -> dict[str, Any]:
    return {"isa": engine.isa, "threads": engine.threads, "tuned": engine.tuned}


def _estimate(job: Job) -> dict[str, Any]:
    engine, samples = _open(job)
    single, batch = batch_seconds(engine, samples, (1, job.batch))
    return {**_about(engine), "single_seconds": single, "batch_seconds": batch}


def _run(job: Job) -> dict[str, Any]:
    loadgen = extra.loadgen()
    engine, samples = _open(job)
    photos = Photos(samples)
    answerer = Answerer(loadgen, engine, photos, job.shape[1:], job.batch)
    settings = loadgen.TestSettings()
    for name, value in job.settings.items():
        setattr(settings, name, value)
    settings.scenario = getattr(loadgen.TestScenario, job.scenario)
    accuracy = job.task == "accuracy"
    settings.mode = loadgen.TestMode.AccuracyOnly if accuracy else loadgen.TestMode.PerformanceOnly
    logs = loadgen.LogSettings()
    logs.log_output.outdir = job.logs
    logs.enable_trace = False

    batcher = None
    issue: Callable[[Sequence[int], Sequence[int]], None] = answerer.answer
    if job.scenario == "Server":
        bound = settings.server_target_latency_ns / 1e9
        seconds = batch_seconds(engine, samples, range(1, job.batch + 1), _SECONDS_OF_MANY, bound)
        batcher = Batcher(answerer.answer, seconds, bound, _fail, job.most_late, _give_up)
        issue = batcher.issue
    else:
        batch_seconds(engine, samples, (job.batch,))
    threading.Thread(target=_report, args=(answerer,), daemon=True).start()
    # What is there stays; a collection that looks through all of it takes as long as several photos.
    gc.collect()
    gc.freeze()
    system = loadgen.ConstructFastSUT(_guarded(issue), lambda: None)
    library = loadgen.ConstructQSL(job.photos, job.performance_count, _guarded(photos.load), _guarded(photos.unload))
    # A name that no file has: LoadGen would take an audit.config of the working folder for its own.
    loadgen.StartTestWithLogSettings(system, library, settings, logs, str(job.log_folder / "no-audit.config"))
    if batcher is not None:
        batcher.close()
    loadgen.DestroyQSL(library)
    loadgen.DestroyFastSUT(system)
    missing = [name for name in ("summary.txt", "detail.txt") if not (job.log_folder / f"mlperf_log_{name}").is_file()]
    if missing:
        raise MlperfError(f"{job.logs}: LoadGen wrote no mlperf_log_{missing[0]}")
    return {**_about(engine), "answered": answerer.answered}


def _guarded(call: Callable[..., None]) -> Callable[..., None]:
    """An error in a callback would go through LoadGen, which ends the process without a word."""

    def guarded(*arguments: Any) -> None:
        try:
            call(*arguments)
        except BaseException as error:
            _fail(error)

    return guarded


def _give_up(late: int) -> None:
    """End a run that cannot become valid any more; LoadGen itself would go on to the end."""
    _say({"result": {"late": late}})
    os._exit(0)


def _report(answerer: Answerer) -> None:
    while True:
        time.sleep(_PACE)
        _say({"done": answerer.answered})


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that waits inside it would hold its lock for ever.
    while os.read(0, 4096):
        pass
    os._exit(4)


def _say(message: dict[str, Any]) -> None:
    with _SAYING:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _fail(error: BaseException) -> NoReturn:
    if isinstance(error, NybbleError):
        _say({"error": str(error)})
    else:
        _say({"crash": "".join(traceback.format_exception(error))})
    os._exit(3)


if __name__ == "__main__":
    main()
