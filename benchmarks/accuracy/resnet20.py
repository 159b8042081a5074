"""ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2), with shortcuts of option A: no weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.graph import Preprocessing

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: The 32x32 image as it is; 2.64 is a little more than the largest magnitude that normalising gives.
PREPROCESSING = Preprocessing(resize=32, crop=(32, 32))
SHAPE = (3, 32, 32)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widens = outputs != inputs
        self.added = (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if self.widens else 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K, H, W), or half the size where K is not C."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.widens:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """Three stages of three blocks, 16, 32 and 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.pool = nn.AvgPool2d(8)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of normalised images (N, 3, 32, 32)."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.layer3(self.layer2(self.layer1(y)))
        return self.linear(self.pool(y).flatten(1))


def pretrained(path: Path) -> ResNet20:
    """The network with published weights, whose keys start with ``module.``."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content)
    network = ResNet20()
    network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return network.eval()
