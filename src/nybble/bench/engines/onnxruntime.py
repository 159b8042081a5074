"""ONNX Runtime, float and INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Array, Engine, RunAll, one_a_thread, one_at_a_time


def open_onnxruntime(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """ONNX Runtime at its best settings: every graph optimization, one thread per core, threads that spin.

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


def make_int8(float_path: Path, folder: Path, photos: Array) -> dict[str, Path]:
    """The candidates of its own quantizer."""
    from nybble.bench.onnx_int8 import make_qdq

    return make_qdq(float_path, folder, photos)


ENGINE = Engine(open_onnxruntime, ("onnxruntime", "onnx"), "onnxruntime", make_int8=make_int8)
