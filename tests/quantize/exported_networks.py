"""Small networks with the spellings that exporters turn into different nodes, and the ways to export them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

#: (C, H, W) of the images.
SHAPE = (3, 12, 12)
#: Batches that files are exported for: fixed at one, fixed at two, any.
BATCHES: tuple[int | None, ...] = (1, 2, None)


class Network(nn.Module):
    """A stem of convolution, batch norm and ReLU, two layers more to use, and an ending."""

    def __init__(self, ending: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.layer = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)
        self.wide = nn.Linear(96, 5)
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self, functional.relu(self.norm(self.stem(x))))


def _pooled(y: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(y, 1)


#: How vectors are made of images, element by element the same or not, and layers between.
ENDINGS: dict[str, Callable[[Network, Tensor], Tensor]] = {
    "flatten": lambda n, y: n.head(_pooled(y).flatten(1)),
    "view by size": lambda n, y: n.head(_pooled(y).view(y.size(0), -1)),
    "view any batch": lambda n, y: n.head(_pooled(y).view(-1, 6)),
    "reshape by shape": lambda n, y: n.wide(functional.max_pool2d(y, 3).reshape(y.shape[0], 6 * 16)),
    "view by channels": lambda n, y: n.wide(functional.max_pool2d(y, 3).view(-1, y.shape[1] * 4 * 4)),
    "module": lambda n, y: n.wide(nn.Flatten()(functional.avg_pool2d(y, 3, 3))),
    "mean": lambda n, y: n.head(y.mean((2, 3))),
    "mean kept": lambda n, y: n.head(y.mean([-2, -1], keepdim=True).flatten(1)),
    "pool of all": lambda n, y: n.head(functional.avg_pool2d(y, 12).view(y.shape[0], -1)),
    "residual": lambda n, y: n.head(functional.relu(n.layer(y) + y).mean((2, 3))),
    "joined": lambda n, y: nn.functional.linear(
        torch.cat([functional.relu(n.layer(y)), y], 1).mean((2, 3)), n.wide.weight[:, :12], n.wide.bias
    ),
    "padded": lambda n, y: n.head(functional.max_pool2d(n.layer(functional.pad(y, (0, 1, 0, 1))), 3, 2).mean((2, 3))),
    "skipped": lambda n, y: n.head(functional.relu6(n.layer(y[:, :, ::2, ::2])).mean((2, 3))),
    "convolution last": lambda n, y: n.layer(_pooled(y)).view(y.size(0), -1),
    "dropout, softmax": lambda n, y: functional.softmax(n.head(functional.dropout(y.mean((2, 3)), 0.5, n.training)), 1),
    "squeezed twice": lambda n, y: n.head(_pooled(y).squeeze(-1).squeeze(-1)),
    "two reshapes": lambda n, y: n.wide(functional.max_pool2d(y, 3).reshape(y.shape[0], 6, 16).reshape(-1, 96)),
    "mean of vectors": lambda n, y: n.head(y.flatten(2).mean(-1)),
}


def make(name: str) -> nn.Module:
    """A network in evaluation mode, always the same one."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Network(ENDINGS[name])
        nn.init.normal_(network.norm.running_mean, 0.0, 0.3)
        nn.init.uniform_(network.norm.running_var, 0.4, 1.5)
        nn.init.uniform_(network.norm.weight, 0.5, 1.5)
    return network.eval()


def export(
    module: nn.Module, path: Path, *, opset: int, batch: int | None, default: bool, shape: tuple[int, int, int] = SHAPE
) -> Path:
    """Write a file as ``torch.onnx.export`` does, by the default exporter or the older one."""
    x = torch.zeros(2 if batch is None else batch, *shape)
    if default:
        any_batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if batch is None else {}
    else:
        any_batch = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}} if batch is None else {}
    level = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            torch.onnx.export(module, (x,), str(path), opset_version=opset, dynamo=default, **any_batch)
        finally:
            logging.disable(level)
    return path
