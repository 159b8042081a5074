"""One contestant in its own process: waits for photos, runs them, and reports the time of each call.

Run as a script, so that a peer's process holds nothing of nybble and its peak memory is its own. The first argument is
a JSON object: ``engine``, ``model``, ``photos`` (raw uint8 (N, H, W, C)), ``shape`` (H, W, C), ``mean``, ``std``,
``threads``, ``mode``, ``isa``, ``features``, those of the processor that ``isa`` needs, and ``cpu_mask``, the library
that hides all beyond these, or null.

Reads one JSON request a line, answers one JSON line each: ``{"photos": [indices], "batch": n}`` gives ``{"seconds":
all calls together, "latencies": [a call each], "predictions": [a photo each], "peak_rss_bytes": until now}``. The first
answer, before any request, describes what was loaded. Photos are prepared before the clock starts: uint8 NHWC for
nybble, float32 normalised for the others, in the order that each takes. What is timed is the
call, from array to logits.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

if TYPE_CHECKING:
    from nybble.bench.engines.base import Engine, RunAll


def engine_of(name: str) -> Engine:
    """The engine's file, imported from its folder as a package of its own, so that nybble is not imported."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        found: Engine = importlib.import_module(f"engines.{name}").ENGINE
    finally:
        # Modules in this folder may be named like the peers'.
        sys.path.pop(0)
    return found


def peak_rss_bytes() -> int | None:
    """The most memory this process held so far (``VmHWM``); ``None`` where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


class Photos:
    """Photos read from a file as they are needed: a mapped file would count as this process's memory."""

    def __init__(self, setup: dict[str, Any], layout: str) -> None:
        # Open as long as the process lives.
        self._file = Path(setup["photos"]).open("rb")  # noqa: SIM115
        self._shape = tuple(setup["shape"])
        self._size = int(np.prod(self._shape))
        self._layout = layout
        self._mean = np.asarray(setup["mean"], dtype=np.float32)
        self._std = np.asarray(setup["std"], dtype=np.float32)

    def prepare(self, indices: Sequence[int]) -> Array:
        """The photos as the engine takes them."""
        samples = np.empty((len(indices), *self._shape), dtype=np.uint8)
        for place, index in enumerate(indices):
            self._file.seek(index * self._size)
            self._file.readinto(memoryview(samples[place]).cast("B"))
        if self._layout == "raw":
            return samples
        normalised = (samples.astype(np.float32) / np.float32(255) - self._mean) / self._std
        if self._layout == "nhwc":
            return normalised
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


def hide_instructions(cpu_mask: str, features: str) -> None:
    """Hide vector instructions beyond ``features``, names with spaces between them, from libraries loaded later.

    Raises :class:`OSError` where that cannot be.
    """
    error = ctypes.CDLL(cpu_mask).nybble_hide_instructions(features.encode())
    if error:
        raise OSError(error, f"CPUID cannot be answered in the processor's place: {os.strerror(error)}")


def serve(run_all: RunAll, photos: Photos, threads: int) -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        chosen, batch = request["photos"], request["batch"]
        calls = [photos.prepare(chosen[at : at + batch]) for at in range(0, len(chosen), batch)]
        # Brings this contestant's weights back into the caches, and wakes its threads.
        run_all(calls[:threads])
        begun = time.perf_counter()
        latencies, logits = run_all(calls)
        seconds = time.perf_counter() - begun
        predictions = np.concatenate([part.reshape(len(part), -1) for part in logits]).argmax(axis=1).tolist()
        _answer(
            {
                "seconds": seconds,
                "latencies": latencies,
                "predictions": predictions,
                "peak_rss_bytes": peak_rss_bytes(),
            }
        )


def main() -> None:
    """Load what the command line describes and serve."""
    setup = json.loads(sys.argv[1])
    if setup["cpu_mask"] is not None:
        hide_instructions(setup["cpu_mask"], setup["features"])
    begun = time.perf_counter()
    engine = engine_of(setup["engine"])
    run_all, about = engine.open(setup)
    _answer({**about, "load_seconds": time.perf_counter() - begun})
    serve(run_all, Photos(setup, engine.layout), setup["threads"])


def _answer(value: dict[str, Any]) -> None:
    _ANSWERS.write(json.dumps(value) + "\n")
    _ANSWERS.flush()


if __name__ == "__main__":
    # Python puts the script's folder first in the path, where modules named like the peers' would hide theirs.
    sys.path.pop(0)
    # Whatever an engine prints is not an answer.
    _ANSWERS, sys.stdout = sys.stdout, sys.stderr
    main()
