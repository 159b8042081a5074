"""What the contestants work on: the network, the photos, and the peers' models made of the same network."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from contestant import normalised
from machine import describe
from nybble.cli.model import find
from nybble.graph import Graph, Preprocessing, read_graph, write_graph
from nybble.graph.types import Array
from nybble.images import LabelledFolder, batches
from onnx_float import write_float_model
from onnx_int8 import Choice, make

#: Photos for the peers' calibration, and how many of the calibration folder are kept for choosing among them.
CALIBRATION = 100
SELECTION_EVERY = 5
#: Photos where there are none: enough for a few rounds.
SYNTHETIC = 128


@dataclass(frozen=True)
class Photos:
    """Decoded photos: uint8 (N, H, W, 3), their classes where they have any, and where they come from."""

    samples: Array
    labels: list[int] | None
    source: str


@dataclass(frozen=True)
class Network:
    """A model directory, its graph, and where it comes from."""

    path: Path
    graph: Graph
    preprocessing: Preprocessing
    source: str


@dataclass(frozen=True)
class Peers:
    """The same network as ONNX Runtime takes it."""

    float_path: Path
    int8: Choice


def shared_data() -> Path | None:
    """The folder of development data: ``NYBBLE_SHARED_DATA``, else ``../shared/data`` beside the checkout."""
    named = os.environ.get("NYBBLE_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def network(model: str | None, folder: Path) -> Network:
    """The model asked for, else the one that ``nybble demo`` would show, else one with random weights."""
    found = find(model)
    if found is not None:
        graph = read_graph(found.path)
        return Network(found.path, graph, graph.preprocessing or Preprocessing(), f"{found.path.name}, {found.why}")
    from nybble.synthetic import resnet50

    graph = resnet50()
    path = folder / "synthetic-resnet50"
    write_graph(graph, path)
    return Network(path, graph, graph.preprocessing or Preprocessing(), "ResNet-50 v1.5 with SYNTHETIC weights")


def photos(images: Path | None, preprocessing: Preprocessing) -> Photos:
    """The labelled photos of a folder; without one ``photos-500`` of the development data, else noise."""
    data = shared_data()
    if images is None and data is not None:
        images = data / "photos-500"
    if images is None:
        return Photos(_noise(SYNTHETIC, preprocessing, seed=1), None, "SYNTHETIC photos (smooth noise)")
    samples, labels = _labelled(images, preprocessing)
    return Photos(samples, labels, f"{len(labels)} photos of {images.name}")


def peers(work: Network, folder: Path, calibration: Path | None, threads: int) -> Peers:
    """Make the peers' models, or take those made before of the same network by the same version on such a machine.

    Parameters
    ----------
    work : Network
    folder : Path
        Where the models are kept.
    calibration : Path or None
        Labelled photos to calibrate on; every fifth is kept for choosing among the INT8 models. Without them
        ``imagenet-1k-one-each`` of the development data, else noise.
    threads : int
    """
    part = folder / "float.onnx"
    write_float_model(work.graph, part, exact=False)
    digest = hashlib.sha256(part.read_bytes())
    digest.update(f"{onnxruntime.__version__} {threads} {_processor()} {calibration}".encode())
    place = folder / digest.hexdigest()[:16]
    place.mkdir(exist_ok=True)
    float_path = part.replace(place / "float.onnx")
    record = place / "int8.json"
    if record.is_file():
        known = Choice.load(record)
        if Path(known.chosen.path).is_file():
            return Peers(float_path, known)
    data = shared_data()
    if calibration is None and data is not None:
        calibration = data / "imagenet-1k-one-each"
    if calibration is None:
        known = _noise(40, work.preprocessing, seed=2)
        choice = make(
            float_path,
            place,
            normalised(known[8:], work.preprocessing),
            normalised(known[:8], work.preprocessing),
            None,
            threads,
        )
    else:
        samples, labels = _labelled(calibration, work.preprocessing)
        kept = np.arange(len(samples)) % SELECTION_EVERY == 0
        # Spread over the folder, which may be sorted by class.
        rest = np.flatnonzero(~kept)
        spread = rest[np.linspace(0, len(rest) - 1, min(CALIBRATION, len(rest))).astype(int)]
        choice = make(
            float_path,
            place,
            normalised(samples[spread], work.preprocessing),
            normalised(samples[kept], work.preprocessing),
            np.array(labels)[kept],
            threads,
        )
    choice.save(record)
    return Peers(float_path, choice)


def _labelled(folder: Path, preprocessing: Preprocessing) -> tuple[Array, list[int]]:
    listed = LabelledFolder(folder)
    samples = np.concatenate([part for part, _ in batches(listed, preprocessing, batch=32)])
    return samples, [photo.label for photo in listed]


def _processor() -> str:
    about = describe()
    return json.dumps([about["cpu"], about["flags"]])


def _noise(count: int, preprocessing: Preprocessing, seed: int) -> Array:
    """Photos without a subject: blocks of random colour with grain, so that neighbours resemble each other."""
    rng = np.random.default_rng(seed)
    rows, columns = preprocessing.crop
    coarse = rng.integers(0, 256, (count, -(-rows // 16), -(-columns // 16), 3))
    blocks = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :rows, :columns]
    return np.clip(blocks + rng.integers(-20, 21, blocks.shape), 0, 255).astype(np.uint8)
