"""What reads a value that has not been quantized yet: the QuantizeLinear nodes behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

from nybble.graph.onnx.quantization import scales_of, stored_type
from nybble.graph.onnx.values import Constant, Real
from nybble.graph.types import Array, DType

if TYPE_CHECKING:
    from nybble.graph.onnx.importer import Importer

#: Operators that quantizing commutes with: they keep the order of numbers, or only rearrange them.
_COMMUTING = (
    "Cast",
    "Clip",
    "Concat",
    "Dropout",
    "Flatten",
    "GlobalMaxPool",
    "Identity",
    "MaxPool",
    "Max",
    "Min",
    "ReduceMax",
    "Relu",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
#: Those that say the same of every number.
_REARRANGING = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Round", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Quantizer:
    """A QuantizeLinear: its scales, as the file has them, the type that it makes, and what is added before it."""

    scales: Array
    dtype: DType
    added: float = 0.0

    def scale(self, real: Real) -> Array | None:
        """One scale a channel of a value; ``None`` if there are others."""
        scales = self.scales.reshape(-1)
        if scales.size == 1 or np.all(scales == scales[0]):
            return np.full(real.unit.shape, float(scales[0]))
        return scales if scales.shape == real.unit.shape else None


def quantizers(
    importer: Importer, node: onnx.NodeProto, *, only_rearranged: bool = False
) -> tuple[list[Quantizer], list[str]]:
    """The QuantizeLinear nodes that a node's output comes to, and the operators of all other readers.

    Parameters
    ----------
    importer : Importer
    node : onnx.NodeProto
    only_rearranged : bool
        Look behind operators that move numbers only, not behind pools and clips.
    """
    passed: Sequence[str] = _REARRANGING if only_rearranged else _COMMUTING
    found: list[Quantizer] = []
    others: list[str] = []
    names, seen = [(node.output[0], 0.0)], set()
    while names:
        name, added = names.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in importer.outputs:
            others.append("output")
        for reader in importer.readers.get(name, []):
            quantizer = _quantizer(importer, reader) if reader.op_type == "QuantizeLinear" else None
            summand = _summand(importer, reader) if only_rearranged else None
            if reader.op_type == "Shape":
                continue
            if quantizer is not None and reader.input[0] == name:
                found.append(replace(quantizer, added=added))
            elif reader.op_type in passed and reader.output:
                names.append((reader.output[0], added))
            elif summand is not None:
                names.append((reader.output[0], added + summand))
            else:
                others.append(reader.op_type)
    return found, others


def _summand(importer: Importer, node: onnx.NodeProto) -> float | None:
    """The number that an Add adds, if it adds one."""
    if node.op_type != "Add" or len(node.input) != 2 or not node.output:
        return None
    for constant in (importer.values.get(name) for name in node.input):
        if isinstance(constant, Constant) and constant.real.size == 1 and np.all(np.isfinite(constant.real)):
            return float(constant.real.reshape(-1)[0])
    return None


def _quantizer(importer: Importer, node: onnx.NodeProto) -> Quantizer | None:
    """``None`` where its scale is not known yet; its own handler will say what is wrong with it."""
    if not all(isinstance(importer.values.get(name), Constant) for name in node.input[1:] if name):
        return None
    scales = scales_of(importer, node)
    if np.any(scales == 0):
        return None
    return Quantizer(scales, stored_type(importer, node)[0])
