"""ncnn, in INT8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Array, Engine, RunAll, one_a_thread, one_at_a_time


def open_ncnn(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """A batch is a loop, since ncnn takes one photo per call. In throughput mode each call runs on one thread."""
    import ncnn
    import numpy as np

    together = setup["mode"] == "throughput"
    net = ncnn.Net()
    net.opt.num_threads = 1 if together else setup["threads"]
    net.opt.use_vulkan_compute = False
    model = Path(setup["model"])
    if net.load_param(str(model)) or net.load_model(str(model.with_suffix(".bin"))):
        raise OSError(f"ncnn does not load {model}")
    entry, last = net.input_names()[0], net.output_names()[0]

    def run(photos: Array) -> Array:
        logits = []
        for photo in photos:
            extractor = net.create_extractor()
            extractor.input(entry, ncnn.Mat(photo))
            code, value = extractor.extract(last)
            if code:
                raise OSError(f"ncnn returned {code}")
            logits.append(np.array(value).reshape(-1))
        return np.stack(logits)

    run_all = one_a_thread(run, setup["threads"]) if together else one_at_a_time(run)
    return run_all, {"version": ncnn.__version__}


def make_int8(float_path: Path, folder: Path, photos: Array) -> dict[str, Path]:
    """One model, written here: ncnn's wheel brings no quantizer."""
    from .layers import read_network
    from .ncnn_file import write_ncnn

    path = folder / "int8-ncnn.param"
    if not path.is_file():
        write_ncnn(read_network(float_path, photos), path)
    return {"s8s8": path}


ENGINE = Engine(
    open_ncnn,
    ("ncnn", "onnx", "onnxruntime"),
    "ncnn",
    make_int8=make_int8,
    runs_float=False,
)
