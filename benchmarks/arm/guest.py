"""Runs in the emulator: a network on one image, with marks for the plugin that counts.

``guest.py nybble MODEL PHOTOS`` or ``guest.py ncnn PARAM INPUT OUTPUT``: MODEL is a model directory, PHOTOS a ``.npy``
of uint8 (N, H, W, C); PARAM is the file of layers. It runs one image, marks 1, runs another, marks 2: the difference of
the counters is what one image takes, without what an engine does once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

#: The first argument of the system call that plugin.cpp takes for a mark.
MARK = 0x6E79


def mark(number: int) -> None:
    """Have the counters written."""
    with suppress(OSError):  # it is not an argument that the call knows
        os.getpriority(MARK, number)


def nybble(model: str, photos: str) -> Callable[[], object]:
    """One photo on one thread, from bytes to logits."""
    from nybble.engine import Engine
    from nybble.graph import read_graph

    engine = Engine(read_graph(model), threads=1, tuned=False)
    photo = np.load(photos)[:1]
    kernels = [kernel.method for kernel in engine.plan.kernels.values()]
    counts = ", ".join(f"{name} {kernels.count(name)}" for name in dict.fromkeys(kernels))
    print(f"isa {engine.isa}: {counts}", flush=True)
    return lambda: engine(photo)


def ncnn(param: str, first: str, last: str) -> Callable[[], object]:
    """One image of normalised floats on one thread; the weights are zero, which the kernels do not look at."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    if net.load_param(param) != 0 or net.load_model(ncnn.DataReaderFromEmpty()) != 0:
        raise SystemExit(f"ncnn does not load {param}")
    width, height, channels = map(int, Path(param).read_text().splitlines()[2].replace("=", " ").split()[-5::2])
    image = ncnn.Mat(np.random.default_rng(1).standard_normal((channels, height, width), dtype=np.float32))

    def run() -> object:
        extractor = net.create_extractor()
        extractor.input(first, image)
        status, result = extractor.extract(last)
        if status != 0:
            raise SystemExit(f"ncnn cannot run {param}")
        return result

    print(f"ncnn {ncnn.__version__}", flush=True)
    return run


if __name__ == "__main__":
    engine_name, *arguments = sys.argv[1:]
    run_once = {"nybble": nybble, "ncnn": ncnn}[engine_name](*arguments)
    gc.disable()
    for number in (1, 2):
        run_once()
        mark(number)
