"""Five of torchvision's networks at 64x64, with random weights: classifiers, a segmentation network, a detector's body.

``benchmarks/sweep.py`` does the same with many more.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from nybble.engine import Engine
from nybble.graph import MaxPool2d, Node, ResizeBilinear, read_graph, write_graph
from nybble.quantize import QuantizeConfig, calibrate, convert, prepare
from nybble.quantize.lower.agreement import input_codes
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "graph"))
from comparison import assert_equal

SHAPE, CLASSES = (3, 64, 64), 8


class Body(nn.Module):
    """What the heads of a detector say of the maps of its backbone."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.rpn.head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def segmenting(name: str) -> nn.Module:
    make = getattr(torchvision.models.segmentation, name)
    found: nn.Module = make(weights=None, weights_backbone=None, num_classes=CLASSES)
    return found


def detecting() -> nn.Module:
    make = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn
    return Body(make(weights=None, weights_backbone=None, num_classes=CLASSES))


def classifying(name: str, **more: Any) -> nn.Module:
    found: nn.Module = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **more)
    return found


#: The module, its outputs, and nodes of a kind that it must have.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str], dict[type[Node], int]]] = {
    "shufflenet_v2_x0_5": (lambda: classifying("shufflenet_v2_x0_5"), ["scale"], {}),
    "resnet18": (lambda: classifying("resnet18"), ["scale"], {}),
    "squeezenet1_1": (lambda: classifying("squeezenet1_1"), ["scale"], {}),
    "lraspp_mobilenet_v3_large": (lambda: segmenting("lraspp_mobilenet_v3_large"), ["output"], {ResizeBilinear: 2}),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (
        detecting,
        ["0_0", "0_1", "0_2", "1_0", "1_1", "1_2"],
        {MaxPool2d: 1},
    ),
}


def images(count: int, seed: int) -> Tensor:
    coarse = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=SHAPE[1:], mode="bilinear") * 1.5


def with_statistics(module: nn.Module) -> nn.Module:
    """In evaluation mode, its batch norms having seen images."""
    norms = [child for child in module.eval().modules() if isinstance(child, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        module(images(4, 1))
    return module.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_it_goes_end_to_end(name: str, tmp_path: Path) -> None:
    make, outputs, kinds = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = with_statistics(make())
    network = prepare(module, SHAPE, QuantizeConfig(bits="w8a8"), output="*")
    calibrate(network, [images(4, 2)])
    made, _ = convert(network)
    write_graph(made, tmp_path / "model")
    graph = read_graph(tmp_path / "model")
    assert_equal(graph, made)
    assert list(graph.outputs) == outputs
    found = Counter(type(node) for node in graph)
    assert {kind: found[kind] for kind in kinds} == kinds
    codes = input_codes(network, images(1, 3))
    expected = interpret(graph, codes, keep=None)
    with Engine(graph, threads=1, tuned=False) as engine:
        for step, value in {**engine.tap(codes), **engine.run(codes, integers=True)}.items():
            np.testing.assert_array_equal(value, expected[step], err_msg=step)
