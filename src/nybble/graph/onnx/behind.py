"""The readers of a value that has not been quantized yet: the QuantizeLinear nodes behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.quantization import scales_of, stored_type
from nybble.graph.onnx.operators.registry import commutes, rearranges
from nybble.graph.onnx.values import Constant, Quantizer


def quantizers(
    importer: Importing, node: onnx.NodeProto, *, only_rearranged: bool = False
) -> tuple[list[Quantizer], list[str]]:
    """The QuantizeLinear nodes that a node's output reaches, and the operators of all other readers.

    Parameters
    ----------
    importer : Importing
    node : onnx.NodeProto
    only_rearranged : bool
        Look only behind operators that move numbers, not behind pools and clips.
    """
    passes = rearranges if only_rearranged else commutes
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
            elif passes(reader.op_type) and reader.output:
                names.append((reader.output[0], added))
            elif summand is not None:
                names.append((reader.output[0], added + summand))
            else:
                others.append(reader.op_type)
    return found, others


def _summand(importer: Importing, node: onnx.NodeProto) -> float | None:
    """The number that an Add adds, if it adds one."""
    if node.op_type != "Add" or len(node.input) != 2 or not node.output:
        return None
    for constant in (importer.values.get(name) for name in node.input):
        if isinstance(constant, Constant) and constant.real.size == 1 and np.all(np.isfinite(constant.real)):
            return float(constant.real.reshape(-1)[0])
    return None


def _quantizer(importer: Importing, node: onnx.NodeProto) -> Quantizer | None:
    """``None`` if its scale is not known yet; its own reader will report what is wrong with it."""
    if not all(isinstance(importer.values.get(name), Constant) for name in node.input[1:] if name):
        return None
    scales = scales_of(importer, node)
    if np.any(scales == 0):
        return None
    return Quantizer(scales, stored_type(importer, node)[0])
