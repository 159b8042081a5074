"""Networks that are not classifiers in 8, mixed and 4 bits: calibrated, then distilled, on the sets of their tasks.

``python benchmarks/accuracy/tasks.py run [--network NAME]... [--bits ROW]... [--method METHOD]... [--epochs N]``
makes the rows that are asked for and not there yet, one after the other; a run that was killed goes on.
``python benchmarks/accuracy/tasks.py table`` prints what there is. Everything is chosen on unlabelled photos; a row's
network runs once on the test set, against the float network on the same photos.
"""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from coco_names import COCO
from records import DATA, WORK, Progress, show, stage
from torch import nn

from nybble import Engine
from nybble.engine.predicting import predict
from nybble.graph import Conv2d, Graph, Linear, read_graph, write_graph
from nybble.images import LeftOut
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ir.fold import fold
from nybble.quantize.pipeline import PipelineConfig, distilled, quantize, save
from nybble.quantize.pipeline.pictures import NetworkRunner
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.sources.load import load_source
from nybble.quantize.sources.pytorch.capture import capture_with_module
from nybble.tasks.evaluation import Evaluation
from nybble.tasks.metrics import Interval, Metric, paired_difference, value_with_interval

FOLDER = WORK / "tasks"
NETWORKS = DATA / "task-networks"
#: Photos to calibrate with, and those on which stages and epochs are compared.
PHOTOS = DATA / "imagenet-1k-one-each"
SELECTION_STEP = 5
#: ``small``: as few layers in 4 bits as bring FastestDet's directory below 300,000 bytes.
ROWS = ("w8a8", "w4a8", "mixed", "w4a4", "small")
METHODS = ("calibrated", "distilled")
#: Photos that ranges are taken from, of those to train with.
CALIBRATION = 40
#: Share of the multiplications outside the first layer, depthwise layers and heads that mixed rows have in 4 bits.
SHARE = 0.8
#: Share of the weights, for ``small``.
SMALL_SHARE = 0.37
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class Subject:
    """A float network, how photos become its input, what it is for, and where it is measured."""

    source: str
    task: dict[str, Any]
    preprocessing: dict[str, Any]
    test: Path
    images: Path | None = None
    noise: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    #: Further settings of rows with 8-bit activations.
    eight: dict[str, Any] = field(default_factory=dict)


def denoiser() -> nn.Module:
    """DnCNN: 17 convolutions with ReLU between, from a gray image to its noise."""

    class DnCNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            widths = [1, *[64] * 16, 1]
            for inputs, outputs in itertools.pairwise(widths):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            self.model = nn.Sequential(*layers[:-1])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.model(x)
            return result

    return DnCNN()


SUBJECTS = {
    "dncnn": Subject(
        f"tasks:denoiser@{NETWORKS / 'dncnn_25.pth'}",
        {"kind": "Restore", "output": "output", "form": "residual", "overlap": 17},
        # Two deviations of noise beyond black and white: a finer step of the input is worth more than what it clips.
        {"crop": (96, 96), "fit": "none", "mean": (0.0,), "std": (1.0,), "input_range": 1.2},
        DATA / "denoise-bsd68",
        noise=25.0,
        settings={"correct_bias": True},
        eight={"activations": {f"model.{place}": {"dtype": "u8"} for place in range(0, 32, 2)}},
    ),
    "espnet": Subject(
        str(NETWORKS / "espnet_camvid.onnx"),
        {"kind": "Segment", "output": "445", "void": 11},
        {
            "fit": "stretch",
            "channel_order": "BGR",
            "mean": (109.98 / 255, 108.19 / 255, 104.80 / 255),
            "std": (78.03, 79.14, 78.08),
        },
        DATA / "segment-camvid" / "test",
        images=DATA / "segment-camvid" / "selection",
    ),
    "fastestdet": Subject(
        str(NETWORKS / "fastestdet.onnx"),
        {
            "kind": "Detect",
            "classes": 80,
            "boxes": ["758"],
            "scores": ["758"],
            "objectness": ["758"],
            "box_first": 1,
            "score_first": 5,
            "strides": [16],
            "centre": "tanh",
            "size": "sigmoid",
            "unit": "image",
            "score_power": 0.4,
            "objectness_power": 0.6,
            "nms_threshold": 0.45,
        },
        {"fit": "stretch", "channel_order": "BGR", **PLAIN},
        DATA / "detect-coco",
    ),
    "yolox": Subject(
        str(NETWORKS / "yolox_nano.onnx"),
        {
            "kind": "Detect",
            "classes": 80,
            "boxes": ["output"],
            "scores": ["output"],
            "objectness": ["output"],
            "objectness_first": 4,
            "score_first": 5,
            "layout": "rows",
            "strides": [8, 16, 32],
            "score_threshold": 0.01,
            "nms_threshold": 0.6,
        },
        {"fit": "letterbox", "channel_order": "BGR", "mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3},
        DATA / "detect-coco",
    ),
}


def configuration(subject: Subject, row: str, method: str, epochs: int, photos: int) -> PipelineConfig:
    """The settings of a row."""
    config = PipelineConfig.model_validate(
        {
            "bits": "mixed" if row == "small" else row,
            "preprocessing": subject.preprocessing,
            "task": subject.task,
            "noise": subject.noise,
            "calibration": {"images": min(photos, CALIBRATION), "workers": 0, "batch": 8, "method": "percentile"},
            "training": {
                "epochs": 0,
                "batch": 8,
                "workers": 0,
                "save_every": 10,
                "range_epochs": 1,
                "warmup_epochs": 0.1,
            },
            "mixed": {
                "four": "w4a8",
                "images": 16,
                "share_of": "weights" if row == "small" else "multiplications",
            },
            "batch": 8,
            "report_images": 1,
            **({"four_bit_share": SHARE} if row == "mixed" else {}),
            **({"four_bit_share": SMALL_SHARE} if row == "small" else {}),
            **subject.settings,
            **(subject.eight if row in ("w8a8", "w4a8") else {}),
        }
    )
    if row != "w8a8":
        config.calibration.weights = "mse"
        config.correct_bias = method == "calibrated"
    if method == "distilled":
        config.method = "lsq"
        config.training.epochs = epochs
        distilled(config.training)
    return config


def chosen_photos(count: int) -> tuple[Path, Path]:
    """Folders of links: photos to calibrate and train with, and photos to choose on."""
    files = sorted(path for path in PHOTOS.iterdir() if path.suffix == ".jpg")
    parts = (
        [path for place, path in enumerate(files) if place % SELECTION_STEP],
        files[:: SELECTION_STEP * SELECTION_STEP],
    )
    folders = FOLDER / f"train-{count}", FOLDER / "choose"
    step = max(1, len(parts[0]) // count)
    for folder, some in zip(folders, (parts[0][::step][:count], parts[1]), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        for path in some:
            link = folder / path.name
            if not link.is_symlink():
                link.symlink_to(path)
    return folders


def make(name: str, row: str, method: str, epochs: int, photos: int) -> dict[str, Any]:
    """Quantize; the figures are those on unlabelled photos."""
    subject, out = SUBJECTS[name], FOLDER / f"{name}-{row}-{method}"
    if (out / "model").is_dir():
        found: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
        return found
    train, choose = chosen_photos(photos)
    finished = quantize(
        subject.source,
        subject.images or train,
        configuration(subject, row, method, epochs, photos),
        val=None if subject.images else choose,
        work=out.with_name(f"{out.name}.work"),
        report=out.with_name(f"{out.name}.report"),
        threads=1,
        progress=Progress(),
    )
    if finished is None:
        raise AssertionError("one process")
    save(finished.graph, finished.outcome, out)
    return finished.outcome.to_dict()


def measured(name: str, row: str, method: str) -> dict[str, Any]:
    """The row's network and the float one on the test set, once."""
    subject = SUBJECTS[name]
    graph = read_graph(FOLDER / f"{name}-{row}-{method}")
    with Engine(graph, threads=1) as engine:
        ours = _metrics(engine, graph, subject)
    floats = _of_float(name, subject, graph)
    made: dict[str, Any] = {"photos": len(ours[0]), **shares(graph)}
    for mine, exact in zip(ours, floats, strict=True):
        made[mine.name] = {
            "float": _rounded(value_with_interval(exact)),
            "value": _rounded(value_with_interval(mine)),
            "difference": _rounded(paired_difference(exact, mine)),
        }
    return made


def _of_float(name: str, subject: Subject, graph: Graph) -> Sequence[Metric]:
    """Those of the float network, kept for the other rows."""
    path = FOLDER / f"float-{name}.pickle"
    if path.is_file():
        kept: Sequence[Metric] = pickle.loads(path.read_bytes())  # noqa: S301 - written below
        return kept
    found = _metrics(NetworkRunner(_float(subject, graph), graph), graph, subject)
    path.write_bytes(pickle.dumps(found))
    return found


def _float(subject: Subject, graph: Graph) -> QuantizedNetwork:
    loaded = load_source(subject.source)
    if loaded.module is None or graph.preprocessing is None:
        raise AssertionError(subject.source)
    shape = (len(graph.preprocessing.mean), *graph.preprocessing.crop)
    captured, _ = capture_with_module(loaded.module, shape)
    return prepare_captured(fold(captured), PipelineConfig(), graph.preprocessing)


def _metrics(runner: Any, graph: Graph, subject: Subject) -> Sequence[Metric]:
    evaluation = Evaluation(graph, subject.test, None, subject.noise)
    progress = Progress()
    count = len(evaluation.photos)
    for done, _ in enumerate(evaluation.run(lambda photo: predict(runner, photo, exif=False), LeftOut()), start=1):
        progress(f"measuring {type(runner).__name__}", done, count)
    return evaluation.metrics


def _rounded(interval: Interval) -> list[float]:
    return [round(float(number), 5) for number in interval]


def shares(graph: Graph) -> dict[str, float]:
    """Multiplications by 4-bit weights: of those of layers but the first, depthwise ones and heads, and of all."""
    four = all_of_them = choosable = 0.0
    scaled = {name for node in graph if node.op == "Scale" for name in node.inputs}
    first = True
    for node in graph:
        if not isinstance(node, Conv2d | Linear):
            continue
        shape = graph.values[node.name].shape
        count = float(np.prod(node.weight.shape) * np.prod(shape[1:]))
        depthwise = isinstance(node, Conv2d) and node.groups > 1 and node.weight.shape[1] == 1
        is_four = str(node.weight.dtype) == "s4"
        all_of_them += count
        four += count * is_four
        if not (first or depthwise or node.name in scaled):
            choosable += count
        first = False
    return {"four_of_choosable": round(four / choosable, 4), "four_of_all": round(four / all_of_them, 4)}


app = typer.Typer(add_completion=False)


@app.command()
def run(
    network: Annotated[list[str] | None, typer.Option()] = None,
    bits: Annotated[list[str] | None, typer.Option()] = None,
    method: Annotated[list[str] | None, typer.Option()] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 4,
    photos: Annotated[int, typer.Option(min=8)] = 200,
) -> None:
    """Make rows, and measure each once."""
    for way in method or METHODS:
        for name in network or SUBJECTS:
            for row in bits or ROWS[:4]:
                what = f"tasks/{name}-{row}-{way}"
                stage(what, lambda n=name, r=row, w=way: _row(n, r, w, epochs, photos))  # type: ignore[misc]


def _row(name: str, row: str, way: str, epochs: int, photos: int) -> dict[str, Any]:
    made = make(name, row, way, epochs, photos)
    noise = {entry["name"]: entry["outputs"]["mean_noise"] for entry in made["stages"]}
    return {"noise": noise, "bytes": made["stages"][-1]["bytes"], **measured(name, row, way)}


@app.command()
def ship(row: str = "small", method: str = "calibrated") -> None:
    """Write FastestDet's row as the bundled model, with the names of its classes."""
    graph = read_graph(FOLDER / f"fastestdet-{row}-{method}")
    named = Graph(
        graph.inputs, graph.nodes, graph.outputs, preprocessing=graph.preprocessing, class_names=COCO, task=graph.task
    )
    folder = Path(__file__).resolve().parents[2] / "models" / "fastestdet"
    write_graph(named, folder)
    size = sum(file.stat().st_size for file in (folder / "model").rglob("*") if file.is_file())
    show(f"{folder}: {size:,} bytes")


@app.command()
def table() -> None:
    """Print the rows that there are, as Markdown."""
    show("| network | row | metric | float | here | difference (95 % interval) | 4-bit share: choosable, all | bytes |")
    show("|---|---|---|---|---|---|---|---|")
    for path in sorted(FOLDER.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for metric in ("AP", "mIoU", "PSNR"):
            if metric in found:
                name, row, way = path.stem.split("-")
                scale = 1 if metric == "PSNR" else 100
                exact, value, difference = (
                    [scale * number for number in found[metric][key]] for key in ("float", "value", "difference")
                )
                show(
                    f"| {name} | {row}, {way} | {metric} | {exact[0]:.2f} | {value[0]:.2f} | "
                    f"{difference[0]:+.2f} ({difference[1]:+.2f} to {difference[2]:+.2f}) | "
                    f"{found['four_of_choosable']:.0%}, {found['four_of_all']:.0%} | {found['bytes']:,} |"
                )


if __name__ == "__main__":
    app()
