"""Small networks of which each writes one thing that the vocabulary of float networks has, in one of its forms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

#: (C, H, W) of the images.
SHAPE = (3, 9, 8)


class Small(nn.Module):
    """Layers that the bodies below use."""

    def __init__(self, body: Callable[[Small, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.valid, self.point = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 2, groups=2)
        self.fc, self.wide, self.twice = nn.Linear(8, 10), nn.Linear(8 * 3 * 2, 10), nn.Linear(16, 10)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.gamma = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.randn(8))

    def stem(self, x: Tensor) -> Tensor:
        return functional.relu(self.a(x))

    def head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _residual(n: Small, x: Tensor, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    y = n.stem(x)
    return n.head(functional.relu(join(y, n.b(y))))


def _in_place(n: Small, x: Tensor) -> Tensor:
    y = n.b(n.stem(x))
    y *= 2
    y += n.gamma
    y -= 0.25
    y /= 1.5
    return n.head(y.relu_())


def _moved(n: Small, x: Tensor) -> Tensor:
    y = functional.max_pool2d(n.stem(x), 3, 3, ceil_mode=False)
    return n.wide(y.permute(0, 2, 3, 1).flatten(1))


def _last(n: Small, x: Tensor) -> Tensor:
    """Channels last in between: a linear layer of pixels is a convolution of 1x1."""
    y = n.stem(x).permute(0, 2, 3, 1)
    y = functional.relu(functional.linear(y, n.point.weight[:, :, 0, 0], n.shift))
    return n.head(y.permute(0, 3, 1, 2))


def _both_pools(n: Small, x: Tensor) -> Tensor:
    y = n.stem(x)
    return n.twice(torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1))


def _branches(n: Small, x: Tensor) -> Tensor:
    """An average pool with padding beside a convolution, on a map smaller than its window."""
    y = functional.max_pool2d(n.stem(x), 4)
    y = torch.cat([functional.avg_pool2d(y, 3, 1, 1), functional.relu(n.point(y))], 1)
    return n.twice(y.mean((2, 3)))


def _scaled_one_by_one(n: Small, x: Tensor, conv: nn.Module | None = None) -> Tensor:
    """As Inception and GoogLeNet of torchvision do with weights of TensorFlow."""
    planes = [torch.unsqueeze(x[:, i], 1) * (0.4 + 0.1 * i) + (0.3 - 0.2 * i) for i in range(3)]
    return n.head(functional.relu((conv or n.valid)(torch.cat(planes, 1))))


def _split_in_sizes(n: Small, x: Tensor) -> Tensor:
    """As Res2Net: a part goes on as it is, another through a layer, one nowhere."""
    first, second, _ = n.stem(x).split([3, 4, 1], dim=1)
    second = functional.relu(functional.conv2d(second, n.point.weight[:5, :4]))
    return n.fc(torch.cat([first, second], 1).mean((2, 3)))


def _split_attention(n: Small, x: Tensor) -> Tensor:
    """As ResNeSt: halves of the channels, of which a softmax between two gates keeps more of one or the other."""
    y = n.stem(x)
    halves = y.reshape(-1, 2, 4, 9, 8)
    gate = functional.conv2d(halves.sum(1).mean((2, 3), keepdim=True), n.point.weight[:, :4])
    gate = functional.softmax(gate.view(-1, 1, 2, 4).transpose(1, 2), dim=1).reshape(x.shape[0], -1)
    joined = (halves * gate.view(-1, 8, 1, 1).reshape(-1, 2, 4, 1, 1)).sum(dim=1)
    return functional.linear(joined.mean((2, 3)), n.fc.weight[:, :4])


def _selective(n: Small, x: Tensor) -> Tensor:
    """As SKNet: a softmax between gates of two branches."""
    y = n.stem(x)
    branches = torch.stack([n.point(y), n.b(y)], dim=1)
    gate = functional.conv2d(branches.sum(1).mean((2, 3), keepdim=True), n.fc.weight[:6, :, None, None])
    gate = functional.conv2d(functional.relu(gate), n.wide.weight.reshape(80, 6)[:16, :, None, None])
    return n.head((branches * torch.softmax(gate.view(-1, 2, 8, 1, 1), dim=1)).sum(1))


def _along_channels(n: Small, x: Tensor, expand: bool = True) -> Tensor:
    """As ECA: a convolution along the channels makes the gate, which is expanded."""
    y = n.stem(x)
    gate = functional.conv1d(y.mean((2, 3)).view(-1, 1, 8), n.fc.weight[:1, None, :3], padding=1)
    gate = torch.sigmoid(gate).view(-1, 8, 1, 1)
    return n.head(y * (gate.expand_as(y) if expand else gate))


#: By name. All can be exported with opset 17; see NOT_EXPORTED.
BODIES: dict[str, Callable[[Small, Tensor], Tensor]] = {
    "normalise inside, padded": lambda n, x: n.head(n.stem((x - n.mean) / n.std)),
    "normalise inside": lambda n, x: n.head(functional.relu(n.valid((x - n.mean) / n.std))),
    "scale input": lambda n, x: n.head(n.stem(x * 2 - 1)),
    "scale input from the left": lambda n, x: n.head(functional.relu(n.valid(1 - 2 * x))),
    "scale without offset": lambda n, x: n.head(n.stem(x / 0.25)),
    "negated": lambda n, x: n.head(functional.relu(-n.a(-x))),
    "residual scale": lambda n, x: _residual(n, x, lambda y, z: y + 0.17 * z),
    "residual alpha": lambda n, x: _residual(n, x, lambda y, z: torch.add(y, z, alpha=0.17)),
    "residual difference": lambda n, x: _residual(n, x, lambda y, z: y - z),
    "layer scale": lambda n, x: _residual(n, x, lambda y, z: y + n.gamma * z),
    "constants in place": _in_place,
    "vectors": lambda n, x: n.fc((n.stem(x).mean((2, 3)) - n.shift) * 0.5),
    "batch norm of vectors": lambda n, x: n.fc(n.norm(n.stem(x).mean((2, 3)))),
    "before a grouped layer": lambda n, x: n.head(n.grouped(n.stem(x) * n.gamma + n.shift.view(8, 1, 1))),
    "temperature": lambda n, x: n.head(n.stem(x)) / 2.5,
    "softmax": lambda n, x: n.head(n.stem(x)).softmax(1),
    "log_softmax": lambda n, x: functional.log_softmax(n.head(n.stem(x)) / 3, dim=-1),
    "matmul": lambda n, x: n.stem(x).mean((2, 3)) @ n.fc.weight.t() + n.fc.bias,
    "mm": lambda n, x: torch.mm(n.stem(x).mean((2, 3)), n.fc.weight.transpose(0, 1)),
    "addmm": lambda n, x: torch.addmm(n.fc.bias, n.stem(x).mean((2, 3)), n.fc.weight.t(), beta=0.5, alpha=2.0),
    "sum of a list": lambda n, x: _residual(n, x, lambda y, z: sum([y, z])),
    "sum of three": lambda n, x: _residual(n, x, lambda y, z: sum([y, z, n.point(y)])),
    "nested additions": lambda n, x: _residual(n, x, lambda y, z: (y + z) + (n.point(y) + n.b(z))),
    "doubled": lambda n, x: _residual(n, x, lambda y, z: (z + z) + y),
    "stack": lambda n, x: _residual(n, x, lambda y, z: torch.stack([y, z, n.point(y)]).sum(0)),
    "stack on another axis": lambda n, x: _residual(n, x, lambda y, z: torch.stack([y, z], dim=2).mean(2)),
    "stack by hand": lambda n, x: _residual(n, x, lambda y, z: torch.cat([y[None], z[None]]).sum(dim=0)),
    "clip": lambda n, x: n.head(torch.clip(n.a(x), 0, 6)),
    "clamp": lambda n, x: n.head(n.a(x).clamp(min=0, max=1)),
    "clamp_min": lambda n, x: n.head(n.a(x).clamp_min(0)),
    "clamp_max": lambda n, x: n.head(n.stem(x).clamp_max(0.5)),
    "clamp_max before": lambda n, x: n.head(functional.relu(n.a(x).clamp(max=0.5))),
    "hardtanh": lambda n, x: n.head(functional.hardtanh(n.a(x), 0.0, 2.0)),
    "relu6": lambda n, x: n.head(functional.relu6(n.a(x), inplace=True)),
    "minimum": lambda n, x: n.head(torch.minimum(torch.tensor(0.5), n.stem(x))),
    "maximum": lambda n, x: n.head(torch.maximum(n.a(x), torch.zeros(()))),
    "mean twice": lambda n, x: n.fc(n.stem(x).mean(3).mean(2)),
    "mean of a row": lambda n, x: n.fc(n.stem(x).flatten(2).mean(-1)),
    "mean kept": lambda n, x: n.fc(torch.flatten(n.stem(x).mean([-2, -1], keepdim=True), 1)),
    "sum over the map": lambda n, x: n.fc(n.stem(x).sum((2, 3)) / 72),
    "adaptive": lambda n, x: n.fc(functional.adaptive_avg_pool2d(n.stem(x), 1).squeeze(-1).squeeze(-1)),
    "adaptive maximum": lambda n, x: n.fc(functional.adaptive_max_pool2d(n.stem(x), 1).reshape(-1, 8)),
    "view": lambda n, x: n.wide(functional.adaptive_avg_pool2d(n.stem(x)[:, :, ::1], (3, 2)).view(x.size(0), -1)),
    "one pixel": lambda n, x: n.fc(functional.adaptive_avg_pool2d(n.stem(x), 1)[:, :, 0, 0]),
    "moved before flattening": _moved,
    "channels last": _last,
    "two pools joined": _both_pools,
    "small map": _branches,
    "inputs scaled one by one": _scaled_one_by_one,
    "inputs scaled one by one, padded": lambda n, x: _scaled_one_by_one(n, x, n.a),
    "blue before red": lambda n, x: n.head(n.stem(x[:, [2, 1, 0]])),
    "turned round": lambda n, x: n.head(n.stem(x.flip(1) * 2)),
    "some channels": lambda n, x: n.fc(torch.cat([(y := n.stem(x))[:, 4:], y[:, :4]], 1).mean((2, 3))),
    "half of the channels": lambda n, x: functional.linear(n.stem(x)[:, ::2].mean((2, 3)), n.fc.weight[:, :4]),
    "chunks": lambda n, x: n.fc(torch.cat(n.stem(x).chunk(2, 1)[::-1], 1).mean((2, 3))),
    "split unevenly": lambda n, x: n.fc(torch.cat(n.stem(x).split(5, 1)[::-1], 1).mean((2, 3))),
    "split in sizes": _split_in_sizes,
    "unbound": lambda n, x: n.head(n.stem(torch.stack(x.unbind(1)[::-1], 1))),
    "rolled": lambda n, x: n.head(n.stem(x.roll(1, 1))),
    "skipped": lambda n, x: n.head(n.stem(x)[:, :, ::2, ::3]),
    "gate": lambda n, x: n.head((y := n.stem(x)) * torch.sigmoid(n.point(y.mean((2, 3), keepdim=True)))),
    "gate first": lambda n, x: n.head(functional.hardsigmoid(n.point((y := n.stem(x)).mean((2, 3), True))) * y),
    "gate expanded": lambda n, x: n.head((y := n.stem(x)) * n.point(y.mean((2, 3), keepdim=True)).expand_as(y)),
    "pixel expanded": lambda n, x: n.head(n.b((y := n.stem(x)).mean((2, 3), keepdim=True).expand(-1, 8, 9, 8)) + y),
    "split attention": _split_attention,
    "selective kernel": _selective,
    "along channels": _along_channels,
    "along channels, not expanded": lambda n, x: _along_channels(n, x, expand=False),
    "rows joined": lambda n, x: n.head(n.b(torch.cat([(y := n.stem(x)), n.point(y[:, :, 2:5])], 2))),
    "columns joined": lambda n, x: n.head(n.b(torch.cat([(y := n.stem(x))[..., :3], y, n.point(y)], 3))),
    "one tap": lambda n, x: n.head(functional.conv1d(n.stem(x).flatten(2), n.point.weight[..., 0]).view(-1, 8, 9, 8)),
    "product": lambda n, x: n.head((y := n.stem(x)) * n.b(y).tanh()),
    "silu in parts": lambda n, x: n.head((y := n.a(x)) * torch.sigmoid(y)),
    "silu by exp": lambda n, x: n.head((y := n.a(x)) / (1 + torch.exp(-y))),
    "sigmoid by exp": lambda n, x: n.head(1 / (1 + (-n.a(x)).exp())),
    "hard swish in parts": lambda n, x: n.head((y := n.a(x)) * functional.relu6(y + 3) / 6),
    "hard swish by clamp": lambda n, x: n.head((y := n.a(x)) * (torch.clamp(y + 3, 0, 6) * (1 / 6))),
    "gelu in parts": lambda n, x: n.head(0.5 * (y := n.a(x)) * (1 + torch.erf(y / 2**0.5))),
    "gelu by tanh": lambda n, x: n.head(functional.gelu(n.a(x), approximate="tanh")),
    "mish in parts": lambda n, x: n.head((y := n.a(x)) * torch.tanh(functional.softplus(y))),
    "swish plus input": lambda n, x: n.head((y := n.a(x)) + functional.silu(y)),
    "square": lambda n, x: n.head((y := n.a(x)) * y),
    "power": lambda n, x: n.head(n.a(x) ** 2),
    "root of a magnitude": lambda n, x: n.head(torch.sqrt(n.a(x).abs() + 0.1)),
    "leaky": lambda n, x: n.head(functional.leaky_relu(n.a(x), 0.2)),
    "one slope": lambda n, x: n.head(functional.prelu(n.a(x), torch.tensor([0.3]))),
    "elu": lambda n, x: n.head(functional.elu(n.a(x), 0.7)),
    "celu": lambda n, x: n.head(functional.celu(n.a(x), 1.3)),
    "selu": lambda n, x: n.head(functional.selu(n.a(x))),
    "mish": lambda n, x: n.head(functional.mish(n.a(x))),
    "softsign": lambda n, x: n.head(functional.softsign(n.a(x))),
    "limits around zero": lambda n, x: n.head(functional.hardtanh(n.a(x), -0.5, 0.75)),
    "function behind ReLU": lambda n, x: n.head(torch.sqrt(n.stem(x) + 0.01)),
    "ReLU behind a function": lambda n, x: n.head(torch.tanh(n.a(x)).relu() * 2),
    "zeros joined": lambda n, x: n.twice(torch.cat([n.stem(x), torch.zeros(x.shape[0], 8, 9, 8)], 1).mean((2, 3))),
}


def make(name: str, seed: int = 0) -> nn.Module:
    """A network in evaluation mode with drawn weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = Small(BODIES[name])
        for tensor in (module.norm.running_mean, module.norm.bias):
            nn.init.normal_(tensor, 0.0, 0.3)
        for tensor in (module.norm.running_var, module.norm.weight):
            nn.init.uniform_(tensor, 0.5, 1.5)
    return module.eval()
