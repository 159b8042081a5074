"""Small networks of every kind of task, with random weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from nybble.graph import (
    Conv2d,
    Detect,
    DType,
    Embed,
    Graph,
    Input,
    Node,
    Padding,
    Preprocessing,
    Quantize,
    Restore,
    Scale,
    Segment,
    Task,
    Tensor,
    write_graph,
)

ROWS, COLUMNS = 24, 32
BOXES, MASKS, IMAGE, CODES = "boxes", "masks", "image", "codes"
CHANNELS = {BOXES: 8, MASKS: 4, IMAGE: 3}
TASKS: dict[str, Task | None] = {
    "detect": Detect(
        classes=3,
        boxes=(BOXES,),
        scores=(BOXES,),
        objectness=(BOXES,),
        box_first=1,
        score_first=5,
        strides=(1,),
        centre="tanh",
        size="sigmoid",
        unit="image",
        score_function="sigmoid",
        objectness_function="sigmoid",
        nms_threshold=0.5,
        score_threshold=0.3,
        maximum=7,
    ),
    "segment": Segment(MASKS),
    "restore": Restore(IMAGE, output_scale=0.1, overlap=4),
    "embed": Embed(IMAGE),
    "none": None,
}


def network(kind: str, preprocessing: Preprocessing | None = None) -> Graph:
    """Three heads on one convolution, and its codes; the task reads one of them."""
    random = np.random.default_rng(0)
    preprocessing = preprocessing or Preprocessing(crop=(ROWS, COLUMNS), fit="stretch")
    nodes: list[Node] = [
        Conv2d(
            name="conv",
            inputs=("x",),
            input_type=DType.S8,
            weight=Tensor.from_array(DType.S8, random.integers(-9, 9, (6, 3, 3, 3))),
            padding=Padding(1, 1, 1, 1),
        ),
        Quantize(
            name=CODES,
            inputs=("conv",),
            input_type=DType.S32,
            output_type=DType.S8,
            factor=Tensor.from_array(DType.U16, random.integers(5, 9, 6)),
            shift=8,
        ),
    ]
    for name, channels in CHANNELS.items():
        weight = Tensor.from_array(DType.S8, random.integers(-9, 9, (channels, 6, 1, 1)))
        scale = Tensor.from_array(DType.F32, np.full(channels, 300.0, np.float32))
        nodes += [
            Conv2d(name=f"{name}_sums", inputs=(CODES,), input_type=DType.S8, weight=weight),
            Scale(name=name, inputs=(f"{name}_sums",), out_scale=scale),
        ]
    entry = Input(name="x", dtype=DType.S8, shape=(3, *preprocessing.crop))
    task = TASKS[kind]
    names = (
        [f"thing {index}" for index in range(3 if kind == "detect" else 4)] if kind in ("detect", "segment") else None
    )
    return Graph([entry], nodes, [*CHANNELS, CODES], preprocessing=preprocessing, task=task, class_names=names)


def write_network(folder: Path, kind: str, preprocessing: Preprocessing | None = None) -> Path:
    """Its model directory."""
    write_graph(network(kind, preprocessing), folder)
    return folder


def picture(seed: int = 0, size: tuple[int, int] = (50, 40)) -> Image.Image:
    """Noise of (columns, rows)."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(photo: Image.Image) -> bytes:
    """A PNG file."""
    sink = io.BytesIO()
    photo.save(sink, "PNG")
    return sink.getvalue()
