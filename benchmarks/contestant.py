"""One contestant, alone in its process: waits for photos, runs them, answers how long each call took.

Reads one JSON request a line, answers one JSON line each:
``{"photos": [indices], "batch": n}`` gives ``{"seconds": [a call each], "predictions": [a photo each]}``.
The first answer, before any request, describes what was loaded. Photos are prepared before the clock starts: uint8
NHWC for nybble, float32 NCHW normalised for ONNX Runtime. What is timed is the call, from array to logits.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array

Run = Callable[[Array], Array]


def open_nybble(model: Path, threads: int) -> tuple[Run, dict[str, Any]]:
    """The engine, fed with uint8 photos; ``NYBBLE_ISA`` chooses its instruction set."""
    import nybble

    engine = nybble.load(model, threads=threads)
    return engine, {"version": nybble.__version__, "isa": str(engine.isa)}


def open_onnxruntime(model: Path, threads: int) -> tuple[Run, dict[str, Any]]:
    """ONNX Runtime at its best settings: every graph optimization, one thread a core, threads that spin."""
    import onnxruntime

    options = session_options(threads)
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(photos: Array) -> Array:
        logits: Array = session.run(None, {name: photos})[0]
        return logits

    return run, {"version": onnxruntime.__version__}


def session_options(threads: int) -> Any:
    """The settings of ONNX Runtime's sessions, here and where the INT8 models are compared."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return options


def normalised(photos: Array, preprocessing: Preprocessing) -> Array:
    """uint8 (N, H, W, 3) to the float32 (N, 3, H, W) that the float and the INT8 model read."""
    return np.ascontiguousarray(preprocessing.normalise(photos).transpose(0, 3, 1, 2))


def serve(run: Run, prepare: Callable[[Array], Array], photos: Array) -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        chosen, batch = request["photos"], request["batch"]
        calls = [prepare(photos[chosen[at : at + batch]]) for at in range(0, len(chosen), batch)]
        # Brings this contestant's weights back into the caches, and wakes its threads.
        run(calls[-1])
        seconds, logits = [], []
        for call in calls:
            begun = time.perf_counter()
            logits.append(run(call))
            seconds.append(time.perf_counter() - begun)
        _answer({"seconds": seconds, "predictions": np.concatenate(logits).argmax(axis=1).tolist()})


def main() -> None:
    """Load what the command line names and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("nybble", "onnxruntime"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="uint8 (N, H, W, 3), .npy")
    parser.add_argument("--preprocessing", required=True, help='JSON: {"mean": [...], "std": [...]}')
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    photos = np.load(chosen.photos, mmap_mode="r")
    known = json.loads(chosen.preprocessing)
    preprocessing = Preprocessing(mean=tuple(known["mean"]), std=tuple(known["std"]))
    begun = time.perf_counter()
    if chosen.engine == "nybble":
        run, about = open_nybble(chosen.model, chosen.threads)
        prepare = np.ascontiguousarray
    else:
        run, about = open_onnxruntime(chosen.model, chosen.threads)

        def prepare(photos: Array) -> Array:
            return normalised(photos, preprocessing)

    _answer({**about, "load_seconds": time.perf_counter() - begun})
    serve(run, prepare, photos)


def _answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
