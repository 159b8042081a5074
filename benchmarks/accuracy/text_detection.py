"""PP-OCRv4's text detection in eight bits against its float network, on words drawn on photos.

``python benchmarks/accuracy/text_detection.py MODEL`` reads ``ch_PP-OCRv4_det_infer.onnx``, which PyPI's
``rapidocr-onnxruntime`` (Apache-2.0) carries. It is calibrated on photos of ``imagenet-1k-one-each`` and compared on
those of ``photos-500``, all with words drawn by this script, whose boxes are therefore known. Nothing is trained.
H-mean is that of boxes with an overlap above 0.5. Answers of each photo are written to ``--output`` as they come; a
later run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image, ImageDraw, ImageFont
from records import DATA, WORK, show
from torch import Tensor

from nybble import Engine
from nybble.files import JSON, write_text
from nybble.graph import Graph, Text
from nybble.graph.types import Array
from nybble.images import Fit
from nybble.quantize import QuantizeConfig, calibrate, convert
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.agreement import input_codes
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.sources.onnx.model import read_onnx
from nybble.quantize.sources.onnx.network import build
from nybble.tasks.metrics.bootstrap import paired_difference, value_with_interval
from nybble.tasks.metrics.text import TextMetric
from nybble.tasks.text import decode_text

#: Rows and columns of the images.
SIZE = 320
CALIBRATED = 32
#: As RapidOCR prepares photos: channels in the order BGR, in -1..1.
MEAN = DEVIATION = 0.5
WORDS = ("exit", "Main Street", "coffee", "No parking", "Platform 9", "open", "2nd floor", "SALE", "Hotel", "museum")


def drawn(path: Path, seed: int) -> tuple[Image.Image, Array]:
    """A photo with one to four words on it, and their boxes (N, 4, 2)."""
    random = np.random.default_rng(seed)
    with Image.open(path) as photo:
        image = photo.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    boxes: list[tuple[float, float, float, float]] = []
    for _ in range(int(random.integers(1, 5))):
        font = ImageFont.load_default(int(random.integers(16, 40)))
        word = str(random.choice(WORDS))
        wide, high = draw.textbbox((0, 0), word, font=font)[2:]
        left, top = (int(random.integers(4, max(5, SIZE - 4 - extent))) for extent in (wide, high))
        box = draw.textbbox((left, top), word, font=font)
        if any(box[0] < b[2] + 8 and b[0] < box[2] + 8 and box[1] < b[3] + 8 and b[1] < box[3] + 8 for b in boxes):
            continue
        light = bool(random.integers(2))
        ground = (20, 20, 20) if light else (240, 240, 235)
        draw.rectangle((box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4), fill=ground)
        draw.text((left, top), word, font=font, fill=(250, 240, 200) if light else (30, 20, 60))
        boxes.append(box)
    corners = [((x1, y1), (x2, y1), (x2, y2), (x1, y2)) for x1, y1, x2, y2 in boxes]
    return image, np.array(corners, np.float64).reshape(-1, 4, 2)


def prepared(image: Image.Image) -> Tensor:
    """(1, 3, SIZE, SIZE)."""
    samples = np.asarray(image)[:, :, ::-1].astype(np.float32) / 255
    return torch.from_numpy(((samples - MEAN) / DEVIATION).transpose(2, 0, 1)[None].copy())


def photos(folder: str, count: int) -> list[Path]:
    """The first so many JPEGs of a folder of the data."""
    return sorted((DATA / folder).rglob("*.jp*g"))[:count]


def quantized(path: Path) -> tuple[Any, Graph]:
    """The calibrated network and its integer graph."""
    network = prepare_captured(fold(build(read_onnx(path), (SIZE, SIZE))), QuantizeConfig(bits="w8a8"))
    images = [prepared(drawn(photo, 10_000 + seed)[0]) for seed, photo in enumerate(photos(CALIBRATION, CALIBRATED))]
    calibrate(network, [torch.cat(images[first : first + 4]) for first in range(0, len(images), 4)])
    return network, convert(network)[0]


CALIBRATION, TEST = "imagenet-1k-one-each", "photos-500"


def compared(path: Path, count: int, output: Path) -> None:
    """Boxes of both networks for each photo, written as they come; at the end their H-means."""
    known: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else {}
    network, graph = quantized(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    with Engine(graph, threads=1) as engine:
        for seed, photo in enumerate(photos(TEST, count)):
            if photo.name in known:
                continue
            image, true = drawn(photo, seed)
            x = prepared(image)
            (wide,) = session.run(None, {entry.name: x.numpy()})
            (narrow,) = engine.run(input_codes(network, x), integers=True).values()
            known[photo.name] = {"true": true.tolist(), "float": _boxes(wide[0]), "w8a8": _boxes(narrow[0])}
            write_text(output, json.dumps(known) + "\n", JSON)
    shown(known)


def _boxes(found: Array) -> list[Any]:
    fit = Fit((SIZE, SIZE), (SIZE, SIZE), 0, 0, (SIZE, SIZE))
    boxes: list[Any] = decode_text(Text(output="map"), found, fit).polygons.tolist()
    return boxes


def shown(known: dict[str, Any]) -> None:
    """H-mean of each network, and the paired difference, with 95 % bootstrap intervals."""
    metrics = {name: TextMetric() for name in ("float", "w8a8")}
    for photo in known.values():
        for name, metric in metrics.items():
            boxes, true = (np.array(photo[key], np.float64).reshape(-1, 4, 2) for key in (name, "true"))
            metric.add(boxes, true)
    for name, metric in metrics.items():
        show(f"{name}: H-mean {value_with_interval(metric)} of {len(metric)} photos")
    show(f"w8a8 less float: {paired_difference(metrics['float'], metrics['w8a8'])}")


def main(words: Sequence[str]) -> None:
    """Compare both networks."""
    parser = argparse.ArgumentParser(description="PP-OCRv4's text detection in eight bits; see docs/networks.md.")
    parser.add_argument("model", type=Path, help="ch_PP-OCRv4_det_infer.onnx")
    parser.add_argument("--count", type=int, default=200, help="photos to compare on")
    parser.add_argument("--output", type=Path, default=WORK / "text_detection.json", metavar="FILE")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    compared(given.model, given.count, given.output)


if __name__ == "__main__":
    main(sys.argv[1:])
