"""Small float networks with the structures of real ones, drawn weights and batch norm that does something."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a projection where the shape changes, as in ResNet-50 and ResNeXt."""

    def __init__(self, channels: int, width: int, out: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """A stem with a max pool, three blocks, the last grouped, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Bottleneck(8, 8, 16), Bottleneck(16, 8, 16))
        self.layer2 = nn.Sequential(Bottleneck(16, 8, 24, stride=2, groups=2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(y))), 1))


class OptionA(nn.Module):
    """The block of CIFAR's ResNet-20: its shortcut skips pixels and pads channels with zeros."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.more = (out - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        y += functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more, self.more), "constant", 0)
        return functional.relu(y)


class CifarNet(nn.Module):
    """One convolution, two blocks of option A, an average over the image taken by its size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(OptionA(8, 16), OptionA(16, 32))
        self.linear = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(functional.relu(self.bn1(self.conv1(x))))
        y = functional.avg_pool2d(y, y.size()[3])
        return self.linear(y.view(y.size(0), -1))


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME: as much padding as the image needs, the odd row and column at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = functional.pad(x, pads)
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class LiteBlock(nn.Module):
    """Expand, depthwise, project without an activation, as in MobileNetV2 and EfficientNet-Lite."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * 3
        self.expand = SameConv2d(channels, wide, 1, bias=False)
        self.bn0 = nn.BatchNorm2d(wide, momentum=0.01, eps=1e-3)
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, momentum=0.01, eps=1e-3)
        self.project = SameConv2d(wide, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, momentum=0.01, eps=1e-3)
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self.bn0(self.expand(x)))
        y = functional.relu6(self.bn1(self.depthwise(y)))
        y = self.bn2(self.project(y))
        return y + functional.dropout(x, 0.2, self.training) if self.adds else y


class LiteNet(nn.Module):
    """EfficientNet-Lite in small."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 8, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(LiteBlock(8, 12, 3, 2), LiteBlock(12, 12, 5, 1), LiteBlock(12, 16, 5, 2))
        self.head = SameConv2d(16, 32, 1, bias=False)
        self.bn_head = nn.BatchNorm2d(32)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks(functional.hardtanh(self.bn(self.stem(x)), 0.0, 6.0))
        y = functional.relu6(self.bn_head(self.head(y))).mean((2, 3))
        return self.fc(self.dropout(y))


class VggNet(nn.Module):
    """Plain convolutions, pools before the activation as well, several linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.MaxPool2d(2, 2),
            nn.ZeroPad2d((1, 0, 1, 2)),
            nn.Conv2d(8, 12, 3, bias=False),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.ReLU(True),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(48, 20), nn.BatchNorm1d(20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class Fire(nn.Module):
    """SqueezeNet's: a narrow convolution, then one of 1x1 and one of 3x3 beside each other."""

    def __init__(self, channels: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide + 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x), inplace=True)
        return torch.cat([functional.relu(self.expand1x1(x)), functional.relu(self.expand3x3(x))], 1)


class FireNet(nn.Module):
    """SqueezeNet in small: its logits come from a convolution, a ReLU and an average over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(8, 4, 8), Fire(17, 5, 9)
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(19, 10, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.classifier(self.features(x)), 1)


class BranchNet(nn.Module):
    """Branches of all kinds: dense growth, one pooled, one that clips at 6, one signed, and the image itself.

    Its ReLU and batch norm come after a concatenation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 6, 3, padding=1)
        self.second = nn.Conv2d(14, 7, 1)
        self.norm = nn.BatchNorm2d(24)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.stem(x))
        y = torch.cat([y, functional.relu(self.first(y))], 1)
        z = torch.cat((functional.relu6(self.second(y)), y, functional.max_pool2d(x, 3, 1, 1)), dim=-3)
        z = functional.relu(torch.cat([self.norm(z), self.stem(x)], 1))
        return self.fc(functional.adaptive_avg_pool2d(z[:, :, ::2, ::2], 1).flatten(1))


class OddNet(nn.Module):
    """What no published network has all of: batch norm first, weights that are computed, values read twice.

    An in-place ReLU changes what a later addition reads; two activations are added; the head is a convolution.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same", dilation=2)
        self.kernel = nn.Parameter(torch.randn(8, 8, 1, 1) * 0.4)
        self.bn = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.head = nn.Conv2d(8, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(functional.pad(x, (0, 1, 0, 1)))
        z = functional.relu(y, inplace=True)
        z = functional.conv2d(z, self.kernel - self.kernel.mean())
        z = z + y
        z = functional.relu(self.bn(z)).clamp(min=0, max=6) + functional.relu6(self.branch(functional.relu(z)))
        z = functional.avg_pool2d(functional.pad(z, (1, 0, 2, 0)), 3, 2, 1)
        return functional.adaptive_avg_pool2d(functional.relu(self.head(z)), 1).flatten(1)


class GatedNet(nn.Module):
    """Functions of one number, whole or in parts, gates in either order, and what reads their results.

    One function's part is read by a layer too; two functions are joined, one is pooled, two values are multiplied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.expand = nn.Conv2d(4, 8, 1)
        self.linear = nn.Conv2d(8, 8, 1)
        self.left = nn.Conv2d(8, 6, 1)
        self.right = nn.Conv2d(8, 6, 3, padding=1)
        self.project = nn.Conv2d(12, 8, 1)
        self.late = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.silu(self.bn(self.stem(x)))
        y = self.depthwise(x)
        y = y * functional.relu6(y + 3) / 6
        gate = self.expand(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        y = self.linear(torch.sigmoid(gate) * y) + x
        left = self.left(y)
        joined = torch.cat([functional.gelu(left), functional.leaky_relu(self.right(y), 0.1)], 1)
        z = functional.max_pool2d(joined, 2)
        z = functional.relu(self.project(z)) * functional.hardsigmoid(self.late(functional.avg_pool2d(y, 2)))
        z = z.relu() + torch.tanh(self.late(functional.avg_pool2d(x, 2)))
        return self.fc(functional.adaptive_avg_pool2d(z, 1).flatten(1))


#: By name: how to make it, and the (C, H, W) it reads.
NETWORKS: dict[str, tuple[type[nn.Module], tuple[int, int, int]]] = {
    "resnet": (ResNet, (3, 32, 32)),
    "cifar": (CifarNet, (3, 16, 16)),
    "lite": (LiteNet, (3, 31, 33)),
    "vgg": (VggNet, (3, 13, 18)),
    "fire": (FireNet, (3, 19, 23)),
    "branches": (BranchNet, (3, 9, 10)),
    "odd": (OddNet, (3, 15, 17)),
    "gated": (GatedNet, (3, 18, 14)),
}


def make(name: str, seed: int = 0) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network in evaluation mode with weights drawn under ``seed``, and its input's shape."""
    kind, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = kind()
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm1d):
                nn.init.uniform_(child.weight, 0.5, 1.5)
                nn.init.normal_(child.bias, 0.0, 0.3)
                nn.init.normal_(child.running_mean, 0.0, 0.2)
                nn.init.uniform_(child.running_var, 0.3, 1.0)
    return module.eval(), shape


def images(shape: tuple[int, int, int], count: int = 4, seed: int = 1) -> Tensor:
    """(count, C, H, W) of noise."""
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
