"""Many networks from end to end with random weights: which are taken, and which operator refuses the others.

``python benchmarks/sweep.py run --list FILE`` reads one network per line, ``tv:NAME`` (torchvision, classification),
``tv-seg:NAME``, ``tv-det:NAME`` (its body: backbone and heads, without anchors and boxes) or ``timm:NAME``. ``--timm``
takes one network of each convolutional family of timm in place of a list. Each network is captured,
calibrated on drawn images, converted, written, read again, and every value of every fused step is compared with the
reference. Results go to ``--output`` after each network; a network that is in it is skipped, unless it failed and
``--again`` is given. ``table`` counts them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from accuracy.records import WORK, show
from torch import Tensor, nn

from nybble import Engine
from nybble.files import JSON, write_text
from nybble.graph import Graph, read_graph, write_graph
from nybble.quantize import QuantizeConfig, calibrate, convert, prepare
from nybble.quantize.lower.agreement import input_codes
from nybble.reference import interpret

#: Rows and columns of the images, but for networks that need others.
SIZE = 64
#: Networks whose last maps would vanish, or whose adaptive pool needs an even division.
SIZES = {
    "tv:alexnet": 224,
    "tv:inception_v3": 107,
    "timm:inception_v3": 107,
    "timm:inception_resnet_v2": 107,
    "timm:inception_v4": 107,
    "tv:googlenet": 64,
    **dict.fromkeys((f"tv:vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")), 32),
    "timm:vgg11": 224,
    "tv-det:ssdlite320_mobilenet_v3_large": 320,
    "tv-det:ssd300_vgg16": 300,
}
#: A small network of each module of timm without attention between pixels.
FAMILIES = (
    *("gernet_s", "convmixer_768_32", "convnext_nano", "cspresnet50", "densenet121", "dla34", "dpn68b", "mnasnet_100"),
    *("fasternet_t0", "focalnet_tiny_srf", "ghostnet_100", "hardcorenas_a", "hgnetv2_b0", "hrnet_w18"),
    *("inception_next_tiny", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_base", "mambaout_tiny"),
    *("poolformer_s12", "mobilenetv3_small_100", "nasnetalarge", "nfnet_l0", "pnasnet5large", "rdnet_tiny"),
    *("regnetx_008", "repghostnet_100", "repvit_m1", "res2net50_14w_8s", "resnest14d", "resnet18", "resnetv2_50"),
    *("rexnet_100", "selecsls42b", "legacy_seresnet18", "skresnet18", "starnet_s1", "tresnet_m", "vgg11"),
    *("ese_vovnet19b_dw", "legacy_xception", "xception41", "cspnext_tiny"),
)
#: Classes of classifiers.
CLASSES = 16
#: Bytes and seconds of one network at most.
MEMORY, SECONDS = 12 << 30, 900
#: What an error says of the operator: the name of an ATen operation, or of a class of the float network.
OPERATOR = re.compile(r"aten\.(\w+)|: (\w+) has no (?:quantized|integer) form")


class Heads(nn.Module):
    """The body of a torchvision detector: what its heads say of images that are normalised already."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone: Any = detector.backbone
        self.head: Any = detector.head if hasattr(detector, "head") else detector.rpn.head

    def forward(self, x: Tensor) -> Any:
        """What the head returns of the backbone's maps."""
        maps = self.backbone(x)
        return self.head(list(maps.values()) if isinstance(maps, dict) else [maps])


def made(name: str, size: int) -> nn.Module:
    """The network with random weights (seed 0), whose batch norms have seen images."""
    torch.manual_seed(0)
    kind, _, short = name.partition(":")
    if kind == "tv":
        more = {"aux_logits": False, "init_weights": False} if short in ("googlenet", "inception_v3") else {}
        module = getattr(torchvision.models, short)(weights=None, num_classes=CLASSES, **more)
    elif kind == "tv-seg":
        found = getattr(torchvision.models.segmentation, short)
        module = found(weights=None, weights_backbone=None, num_classes=CLASSES)
    elif kind == "tv-det":
        found = getattr(torchvision.models.detection, short)
        module = Heads(found(weights=None, weights_backbone=None, num_classes=CLASSES))
    elif kind == "timm":
        import timm

        module = timm.create_model(short, pretrained=False, num_classes=CLASSES)
    else:
        raise SystemExit(f"{name}: must begin with tv:, tv-seg:, tv-det: or timm:")
    return _with_statistics(module.eval(), size)


def images(count: int, size: int, seed: int) -> Tensor:
    """(count, 3, size, size): smooth noise and noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth * 1.2 + 0.3 * torch.randn(count, 3, size, size, generator=generator)


@torch.no_grad()
def _with_statistics(module: nn.Module, size: int) -> nn.Module:
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
        nn.init.uniform_(norm.weight, 0.6, 1.4)
        nn.init.normal_(norm.bias, 0.0, 0.2)
    if norms:
        # White noise too, as capture draws: filters that smooth images hardly pass would let it explode.
        white = torch.randn(32, 3, size, size, generator=torch.Generator().manual_seed(4))
        module(torch.cat([images(16, size, 1), white]))
    for norm in norms:
        norm.momentum = 0.1
        # The variance of a few pixels may be close to 0: rounding of floats would then decide the logits.
        norm.running_var.clamp_(min=0.25 * float(norm.running_var.mean()))
    return module.eval()


def tried(name: str, size: int, *, is_quick: bool = False) -> dict[str, Any]:
    """How far a network gets: the stage that refused it with its error, or what was compared."""
    record: dict[str, Any] = {"size": size}
    stage = "make"
    try:
        module = made(name, size)
        stage = "prepare"
        output = None if name.startswith(("tv:", "timm:")) else "*"
        network = prepare(module, (3, size, size), QuantizeConfig(), output=output)
        if is_quick:
            return {**record, "steps": 0}
        stage = "calibrate"
        calibrate(network, [images(4, size, 2)])
        stage = "convert"
        graph, _ = convert(network)
        with tempfile.TemporaryDirectory() as folder:
            stage = "directory"
            write_graph(graph, Path(folder) / "model")
            graph = read_graph(Path(folder) / "model")
            stage = "verify"
            record |= _compared(graph, input_codes(network, images(1, size, 3)))
    except Exception as error:  # Whatever refuses the network: that is what is counted.
        record |= {"refused_by": stage, "error": f"{type(error).__name__}: {str(error)[:600]}"}
        found = OPERATOR.search(str(error))
        record["operator"] = next(filter(None, found.groups()), "") if found else ""
        if type(error).__module__.partition(".")[0] != "nybble":
            record["traceback"] = traceback.format_exc()[-1500:]
    return record


def _compared(graph: Graph, codes: Any) -> dict[str, Any]:
    expected = interpret(graph, codes, keep=None)
    with Engine(graph, threads=1, tuned=False) as engine:
        steps = engine.tap(codes)
        for name, found in steps.items():
            np.testing.assert_array_equal(found, expected[name], err_msg=name)
    values = sum(found.size for found in steps.values())
    return {"nodes": len(graph), "steps": len(steps), "values": values, "outputs": len(graph.outputs)}


def _import_once(names: Sequence[str], size: int) -> None:
    """Everything that a network imports when it is captured, so that forked processes find it imported."""
    if any(name.startswith("timm:") for name in names):
        import timm  # noqa: F401
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    prepare(nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), (3, size, size))


def _child(name: str, size: int, is_quick: bool, queue: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    queue.put(tried(name, size, is_quick=is_quick))


def _tried_apart(name: str, size: int, seconds: float, is_quick: bool) -> dict[str, Any]:
    """In a process of its own, which may be killed or run out of memory."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(name, size, is_quick, queue))
    begun = time.time()
    child.start()
    while child.is_alive() and queue.empty() and time.time() - begun < seconds:
        child.join(0.2)
    if not queue.empty():
        record: dict[str, Any] = queue.get()
    else:
        why = f"ended with {child.exitcode}" if not child.is_alive() else f"took more than {seconds:.0f} s"
        record = {"size": size, "refused_by": "process", "error": why, "operator": ""}
    child.kill()
    child.join()
    return {**record, "seconds": round(time.time() - begun, 1)}


def run(names: Sequence[str], output: Path, *, again: bool, seconds: float, size: int, is_quick: bool) -> None:
    """Try every network, writing the file after each."""
    torch.set_num_threads(1)
    _import_once(names, size)
    record: dict[str, Any] = _known(output)
    left = [name for name in names if name not in record or (again and "error" in record[name])]
    show(f"{len(names) - len(left)} of {len(names)} are in {output}")
    for name in left:
        found = _tried_apart(name, SIZES.get(name, size), seconds, is_quick)
        # Another process may write the same file.
        record = {**_known(output), name: found}
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, json.dumps(record, indent=1) + "\n", JSON)
        outcome = found.get("error") or f"{found['steps']} steps equal"
        show(f"{name}: {outcome} ({found['seconds']} s)")


def table(names: Sequence[str], output: Path) -> None:
    """How many go end to end, and what refuses the others."""
    record = _known(output)
    tried_ones = [name for name in names if name in record]
    right = [name for name in tried_ones if "error" not in record[name]]
    show(f"{len(right)} of {len(tried_ones)} go end to end ({len(names)} listed)")
    by_operator: defaultdict[str, list[str]] = defaultdict(list)
    for name in tried_ones:
        if "error" in record[name]:
            by_operator[record[name]["operator"] or record[name]["refused_by"]].append(name)
    for operator, refused in sorted(by_operator.items(), key=lambda entry: -len(entry[1])):
        show(f"| {operator} | {len(refused)} | {', '.join(refused)} |")
    show(str(Counter(name.partition(":")[0] for name in right)))


def _known(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _names(given: argparse.Namespace) -> Iterator[str]:
    if given.timm:
        yield from (f"timm:{name}" for name in FAMILIES)
    if given.list is not None:
        yield from given.list.read_text(encoding="utf-8").split()
    yield from given.networks


def main(words: Sequence[str]) -> None:
    """Try networks, or count what was found."""
    parser = argparse.ArgumentParser(description="Many networks from end to end; see docs/networks.md.")
    parser.add_argument("stage", choices=("run", "table"))
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="such as tv:resnet18 or timm:hrnet_w18")
    parser.add_argument("--list", type=Path, metavar="FILE", help="networks, one per line")
    parser.add_argument("--timm", action="store_true", help="one network of each convolutional family of timm")
    parser.add_argument("--output", type=Path, default=WORK / "sweep.json", metavar="FILE", help="results, continued")
    parser.add_argument("--again", action="store_true", help="also those that failed before")
    parser.add_argument("--quick", action="store_true", help="only capture and prepare them, to see what is refused")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one network at most")
    parser.add_argument("--size", type=int, default=SIZE, help="rows and columns of the images")
    given = parser.parse_args(words)
    names = list(dict.fromkeys(_names(given)))
    if not names:
        parser.error("no networks: give names, --list or --timm")
    if given.stage == "table":
        table(names, given.output)
    else:
        rest = {"seconds": given.seconds, "size": given.size, "is_quick": given.quick}
        run(names, given.output, again=given.again, **rest)


if __name__ == "__main__":
    main(sys.argv[1:])
