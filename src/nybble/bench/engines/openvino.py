"""OpenVINO, float and INT8."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import Array, Engine, RunAll, one_at_a_time

#: ONNX Runtime's models that OpenVINO is tried with; it has no fast way for the others.
QDQ_TRIED = ("u8s8", "u8s8-reduced-range")


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


def make_int8(float_path: Path, folder: Path, photos: Array) -> dict[str, Path]:
    """The candidates of NNCF, its own quantizer, and those of ONNX Runtime's that it runs fast."""
    from nybble.bench.onnx_int8 import make_nncf, make_qdq

    qdq = make_qdq(float_path, folder, photos)
    suited = {name: path for name, path in qdq.items() if name in QDQ_TRIED}
    return {**make_nncf(float_path, folder, photos), **suited}


# Its INT8 candidates include those of ONNX Runtime's quantizer.
ENGINE = Engine(open_openvino, ("openvino", "onnx", "onnxruntime"), "openvino", make_int8=make_int8)
