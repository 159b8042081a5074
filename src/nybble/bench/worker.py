"""One contestant, alone in its process: waits for photos, runs them, answers how long each call took.

Run as a script, so that a peer's process holds nothing of nybble and its peak memory is its own. The first argument is
a JSON object: ``engine``, ``model``, ``photos`` (raw uint8 (N, H, W, C)), ``shape`` (H, W, C), ``mean``, ``std``,
``threads``, ``mode``, ``isa``, ``features``, those of the processor that ``isa`` needs, and ``cpu_mask``, the library
that hides all beyond these, or null.

Reads one JSON request a line, answers one JSON line each: ``{"photos": [indices], "batch": n}`` gives ``{"seconds":
all calls together, "latencies": [a call each], "predictions": [a photo each], "peak_rss_bytes": until now}``. The first
answer, before any request, describes what was loaded. Photos are prepared before the clock starts: uint8 NHWC for
nybble, float32 NCHW normalised for the others. What is timed is the call, from array to logits.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
#: Runs prepared batches; returns seconds and logits of each.
RunAll = Callable[[Sequence[Array]], tuple[list[float], list[Array]]]


def one_at_a_time(run: Callable[[Array], Array]) -> RunAll:
    """The next call when the one before has answered."""

    def run_all(calls: Sequence[Array]) -> tuple[list[float], list[Array]]:
        seconds, logits = [], []
        for call in calls:
            begun = time.perf_counter()
            logits.append(run(call))
            seconds.append(time.perf_counter() - begun)
        return seconds, logits

    return run_all


def one_a_thread(run: Callable[[Array], Array], threads: int) -> RunAll:
    """As many calls under way as there are threads."""
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


def open_nybble(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """The engine, fed with uint8 photos; it spreads a batch over its threads by itself."""
    import nybble

    engine = nybble.load(setup["model"], threads=setup["threads"], isa=setup["isa"])
    return one_at_a_time(engine), {"version": nybble.__version__, "isa": str(engine.isa), "tuned": engine.plan.tuned}


def open_onnxruntime(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """ONNX Runtime at its best settings: every graph optimization, one thread a core, threads that spin.

    In throughput mode each call runs on one thread, and as many calls run together as there are threads.
    """
    import onnxruntime

    together = setup["mode"] == "throughput"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1 if together else setup["threads"]
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(setup["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(photos: Array) -> Array:
        logits: Array = session.run(None, {name: photos})[0]
        return logits

    run_all = one_a_thread(run, setup["threads"]) if together else one_at_a_time(run)
    return run_all, {"version": onnxruntime.__version__}


def open_openvino(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """OpenVINO with its hint for latency or for throughput, compiled for each batch size; float stays float32."""
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": setup["mode"].upper(),
        "INFERENCE_NUM_THREADS": setup["threads"],
        # Otherwise processors with AMX would run the FP32 model in bfloat16.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled: dict[int, Any] = {}

    def compile_for(batch: int) -> Any:
        if batch not in compiled:
            model = core.read_model(setup["model"])
            height, width, channels = setup["shape"]
            model.reshape([batch, channels, height, width])
            made = core.compile_model(model, "CPU", settings)
            compiled[batch] = made.create_infer_request() if setup["mode"] == "latency" else made
        return compiled[batch]

    def run(photos: Array) -> Array:
        # The result is a view of the request's memory.
        logits: Array = compile_for(len(photos)).infer({0: photos})[0].copy()
        return logits

    def run_queued(calls: Sequence[Array]) -> tuple[list[float], list[Array]]:
        seconds = [0.0] * len(calls)
        logits: list[Any] = [None] * len(calls)
        begun = [0.0] * len(calls)
        for batch in sorted({len(call) for call in calls}):
            queue = openvino.AsyncInferQueue(compile_for(batch))

            def done(request: Any, at: int) -> None:
                seconds[at] = time.perf_counter() - begun[at]
                logits[at] = request.get_output_tensor(0).data.copy()

            queue.set_callback(done)
            for at, call in enumerate(calls):
                if len(call) == batch:
                    queue.get_idle_request_id()
                    begun[at] = time.perf_counter()
                    queue.start_async({0: call}, at)
            queue.wait_all()
        return seconds, logits

    run_all = one_at_a_time(run) if setup["mode"] == "latency" else run_queued
    return run_all, {"version": openvino.__version__.split("-")[0]}


def open_torch(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """PyTorch: the float model traced and frozen, channels last.

    Not ``optimize_for_inference``: its fused layers answered wrongly (torch 2.14.1; 81 % where float has 91 %).
    """
    import torch

    sys.path.insert(0, str(Path(__file__).parent))
    from torch_model import load_onnx

    torch.set_num_threads(setup["threads"])
    torch.set_grad_enabled(False)
    height, width, channels = setup["shape"]
    example = torch.zeros(1, channels, height, width).to(memory_format=torch.channels_last)
    model = load_onnx(setup["model"]).eval().to(memory_format=torch.channels_last)
    traced = torch.jit.freeze(torch.jit.trace(model, example))

    def run(photos: Array) -> Array:
        logits: Array = traced(torch.from_numpy(photos).to(memory_format=torch.channels_last)).numpy()
        return logits

    return one_at_a_time(run), {"version": torch.__version__}


OPEN = {
    "nybble": open_nybble,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "torch": open_torch,
}


def peak_rss_bytes() -> int | None:
    """The most memory this process held so far (``VmHWM``); ``None`` where the system does not tell."""
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

    def __init__(self, setup: dict[str, Any]) -> None:
        # Open as long as the process lives.
        self._file = Path(setup["photos"]).open("rb")  # noqa: SIM115
        self._shape = tuple(setup["shape"])
        self._size = int(np.prod(self._shape))
        self._raw = setup["engine"] == "nybble"
        self._mean = np.asarray(setup["mean"], dtype=np.float32)
        self._std = np.asarray(setup["std"], dtype=np.float32)

    def prepare(self, indices: Sequence[int]) -> Array:
        """The photos as the engine takes them."""
        samples = np.empty((len(indices), *self._shape), dtype=np.uint8)
        for place, index in enumerate(indices):
            self._file.seek(index * self._size)
            self._file.readinto(memoryview(samples[place]).cast("B"))
        if self._raw:
            return samples
        normalised = (samples.astype(np.float32) / np.float32(255) - self._mean) / self._std
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
    run_all, about = OPEN[setup["engine"]](setup)
    _answer({**about, "load_seconds": time.perf_counter() - begun})
    serve(run_all, Photos(setup), setup["threads"])


def _answer(value: dict[str, Any]) -> None:
    _ANSWERS.write(json.dumps(value) + "\n")
    _ANSWERS.flush()


if __name__ == "__main__":
    # Python puts the script's folder first in the path, where modules named like the peers' would hide theirs.
    sys.path.pop(0)
    # Whatever an engine prints is no answer.
    _ANSWERS, sys.stdout = sys.stdout, sys.stderr
    main()
