"""LiteRT with XNNPACK, in INT8."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from .base import Array, Engine, RunAll, one_a_thread, one_at_a_time


def open_litert(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """LiteRT with XNNPACK, which it uses by itself; an interpreter for each batch size.

    In throughput mode each call runs on one thread, by an interpreter of that thread.
    """
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    together = setup["mode"] == "throughput"
    mine = threading.local()

    def interpreter_for(batch: int) -> Any:
        made = mine.__dict__.setdefault("interpreters", {})
        if batch not in made:
            interpreter = Interpreter(setup["model"], num_threads=1 if together else setup["threads"])
            entry = interpreter.get_input_details()[0]
            interpreter.resize_tensor_input(entry["index"], [batch, *entry["shape"][1:]], strict=False)
            interpreter.allocate_tensors()
            made[batch] = interpreter, entry["index"], interpreter.get_output_details()[0]["index"]
        return made[batch]

    def run(photos: Array) -> Array:
        interpreter, entry, last = interpreter_for(len(photos))
        interpreter.set_tensor(entry, photos)
        interpreter.invoke()
        logits: Array = interpreter.get_tensor(last)
        return logits

    run_all = one_a_thread(run, setup["threads"]) if together else one_at_a_time(run)
    return run_all, {"version": ai_edge_litert.__version__}


def make_int8(float_path: Path, folder: Path, photos: Array) -> dict[str, Path]:
    """One file, written here: LiteRT's own converters need TensorFlow, or a PyTorch module to start from."""
    from nybble.files import OWN, write

    from .layers import read_network
    from .litert_file import litert_file

    path = folder / "int8-litert.tflite"
    if not path.is_file():
        write(path, litert_file(read_network(float_path, photos)), OWN)
    return {"s8s8": path}


ENGINE = Engine(
    open_litert,
    ("ai_edge_litert", "onnx", "onnxruntime"),
    "ai-edge-litert",
    make_int8=make_int8,
    runs_float=False,
    layout="nhwc",
)
