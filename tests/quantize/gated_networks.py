"""Published networks with gates and activation functions other than ReLU, with drawn weights, and ways to read them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch
import torchvision
from exported_networks import export
from torch import Tensor, nn

from nybble.quantize.ir.float_network import FloatNetwork
from nybble.quantize.ir.fold import fold
from nybble.quantize.sources.onnx import load_onnx
from nybble.quantize.sources.pytorch.capture import capture

#: (C, H, W) of the images, and the classes.
SHAPE, CLASSES = (3, 64, 64), 16
OF_TORCHVISION = ("efficientnet_b0", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_y_400mf")
OF_TIMM = ("semnasnet_100", "ghostnet_100", "hardcorenas_a", "darknet53")
NETWORKS = (*OF_TORCHVISION, *OF_TIMM)
#: From the module itself, and from what torch's default exporter and the older one write.
ROUTES = ("PyTorch", "default exporter", "older exporter")
#: Networks that are read from exported files as well, unless NYBBLE_ALL_ROUTES=1 asks for all.
EXPORTED = ("mobilenet_v3_small", "ghostnet_100")


def cases() -> list[tuple[str, str]]:
    """Networks and routes to test."""
    exported = NETWORKS if os.environ.get("NYBBLE_ALL_ROUTES") == "1" else EXPORTED
    return [(name, route) for route in ROUTES for name in (NETWORKS if route == ROUTES[0] else exported)]


def images(count: int, seed: int) -> Tensor:
    """(count, C, H, W): smooth noise."""
    coarse = torch.randn(count, SHAPE[0], 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=SHAPE[1:], mode="bilinear") * 1.5


@functools.cache
def make(name: str) -> nn.Module:
    """A network in evaluation mode whose drawn weights keep the size of its values from layer to layer."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if name in OF_TORCHVISION:
            module = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
        else:
            timm = pytest.importorskip("timm", reason="needs timm: pip install 'nybble[test-networks]'")
            module = timm.create_model(name, pretrained=False, num_classes=CLASSES)
        module.eval()
        norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
        for norm in norms:
            norm.train()
            norm.momentum = None
            nn.init.uniform_(norm.weight, 0.6, 1.4)
            nn.init.normal_(norm.bias, 0.0, 0.2)
        with torch.no_grad():
            # Noise too, which capture compares the network on.
            module(torch.cat([images(16, 4), torch.randn(16, *SHAPE)]))
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, 0.0, layer.in_features**-0.5)
    for norm in norms:
        norm.momentum = 0.1
    return module.eval()


@functools.cache
def captured(name: str) -> FloatNetwork:
    """The folded network of the module itself."""
    return fold(capture(make(name), SHAPE))


def read(name: str, route: str, folder: Path) -> FloatNetwork:
    """The folded network by one of ``ROUTES``."""
    if route == ROUTES[0]:
        return captured(name)
    is_default = route == ROUTES[1]
    path = export(make(name), folder / f"{name}.onnx", opset=18, batch=None, default=is_default, shape=SHAPE)
    return fold(capture(load_onnx(path), SHAPE))
