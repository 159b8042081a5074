"""Channels divided by constants before they are rounded, which gives each its own step; the readers compensate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import number
from nybble.quantize.ir import float_network
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.prepare.preparation import Preparation


class Divided(FakeOperation):
    """Sums, or codes that are rounded once more, divided by a constant for each channel.

    The integer network computes nothing for it: a unit of them stands for less, and the factors by channel of the
    Quantize behind follow from that.

    Parameters
    ----------
    divisor : Tensor
        (C), positive. It is not trained.
    """

    divisor: Tensor

    def __init__(self, divisor: Tensor) -> None:
        super().__init__()
        self.register_buffer("divisor", divisor.detach().clone().float())

    def forward(self, x: Tensor) -> Tensor:
        """Divide (N, C, ...) by channel."""
        return x / self.divisor.reshape(-1, *[1] * (x.dim() - 2))


class ChannelDivisions(FloatOperation):
    """No front end makes them; :mod:`nybble.quantize.ptq.depthwise` and :mod:`nybble.quantize.ptq.even` do."""

    ops = (float_network.ChannelDivision,)
    modules = (Divided,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover depthwise layers, whose input channels may be divided."""
        yield around("depthwise", lambda: nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6)))
        yield around("gated", lambda: _Gated())

    def prepare(self, op: float_network.ChannelDivision, preparation: Preparation) -> None:
        """Exact sums remain such. What has none, or is clipped by its quantizer, is read as codes."""
        (source,) = op.inputs
        before = None if source == float_network.INPUT else preparation.network[source]
        clipped = isinstance(before, float_network.Rectifier) and before.maximum is not None
        has_sums = source in preparation.sums and not clipped
        read = preparation.sums[source] if has_sums else preparation.coded(source)[0]
        preparation.sums[op.name] = preparation.step(op.name, Divided(op.divisor), read)

    def convert(self, module: Divided, step: Step, conversion: Conversion) -> None:
        """The integers stay the same; only their units change."""
        (source,) = step.inputs
        conversion.values[step.name] = conversion.values[source]
        conversion.units[step.name] = conversion.units[source] / number(module.divisor)


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.relu(self.depthwise(functional.silu(x)))
        return result


register(ChannelDivisions())
