"""The float side of :mod:`outside_half`: captured from PyTorch and ONNX as ``(x + |x|) / 4``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import outside_half
import torch
from torch import Tensor

from nybble.graph.types import Array
from nybble.quantize.fake.network import Step
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.ir.float_network import FloatNetwork, Op
from nybble.quantize.ir.rewriting import extended, region, replace_region
from nybble.quantize.ir.vocabulary import Made, Result, Translation, value_of
from nybble.quantize.lower.conversion import Conversion
from nybble.quantize.ops import FloatOperation, Forms
from nybble.quantize.ops.restoration import Restoration
from nybble.quantize.prepare.preparation import Preparation

forms = Forms()
#: Where a function of one number is compared with half of the positive numbers.
PROBES = torch.linspace(-8, 8, 257)


@dataclass(kw_only=True)
class Magnitude(Op):
    """``|x|``, a part of the composition; it has no integer form of its own."""

    is_elementwise: ClassVar[bool] = True

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0].abs()


@dataclass(kw_only=True)
class PositiveHalf(Op):
    """``max(0, x) / 2``."""

    is_elementwise: ClassVar[bool] = True

    def is_nonnegative(self, positive: Collection[str]) -> bool:
        return True

    def _compute(self, *values: Tensor) -> Tensor:
        return values[0].relu() / 2


@forms.aten("abs.default")
def _abs(shape: tuple[int, ...], x: Translation) -> Result:
    return Made((Magnitude(name="", inputs=(x.name,), shape=x.extents),), x.axes)


@forms.onnx("Abs")
def _onnx_abs(node: Any, x: Any) -> Result:
    return _abs((), value_of(x))


class Half(FakeOperation):
    """``max(0, x) / 2`` in whole units of a layer's sums, halves rounded up."""

    keeps_unit = True

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self._reads = (layer,)

    def forward(self, x: Tensor) -> Tensor:
        y = x.relu() / 2
        if self.mode != "quantize":
            return y
        unit = self._reads[0].unit().reshape(-1, *[1] * (x.dim() - 2))
        whole = torch.floor(torch.round(x.relu() / unit) / 2 + 0.5) * unit
        return y + (whole - y).detach()


class HalfOperation(FloatOperation):
    forms = forms
    ops = (PositiveHalf,)
    modules = (Half,)
    nodes = (outside_half.PositiveHalf,)

    def rewrite(self, network: FloatNetwork) -> None:
        for op in list(network):
            found = region(network, op.name) if len(op.inputs) > 1 else None
            if found is None:
                continue
            found = extended(network, found)
            if found.is_same_for_all_channels() and torch.allclose(found.of_numbers(PROBES), PROBES.relu() / 2):
                replace_region(network, found, PositiveHalf(name="", inputs=(), shape=()))

    def prepare(self, op: PositiveHalf, preparation: Preparation) -> None:
        source = op.inputs[0]
        layer = preparation.owners[op.name] = preparation.owners[source]
        preparation.sums[op.name] = preparation.step(op.name, Half(layer), preparation.sums[source])

    def convert(self, module: Half, step: Step, conversion: Conversion) -> None:
        conversion.units[step.name] = conversion.units[step.inputs[0]]
        conversion.append(step, outside_half.PositiveHalf)

    def restore(self, node: outside_half.PositiveHalf, restoration: Restoration) -> None:
        restoration.append(node, Half(restoration.layers[node.inputs[0]]), node.inputs[0])
        restoration.inherit(node)

    def unit_of_sums(self, node: outside_half.PositiveHalf, restoration: Restoration) -> Array | None:
        return restoration.unit_from_readers(node.name)

    def main_input(self, node: outside_half.PositiveHalf, restoration: Restoration) -> str | None:
        return node.inputs[0]


operation = HalfOperation()
