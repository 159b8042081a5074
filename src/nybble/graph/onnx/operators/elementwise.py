"""Functions of one activation that a file composes of elementwise operators: each becomes one table.

Exporters write SiLU as Sigmoid and Mul, HardSwish as Add, Clip, Mul and Div, GELU as a dozen nodes around Erf; others
have an operator for it. All are functions of one code if they read one activation and constants. Their values are
computed for every code, in float32 after each operator as in runtimes, and QuantizeLinear turns them into a Table. If
other nodes read a value in between, they read it as usual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from nybble.graph import functions
from nybble.graph.onnx.elements import EVALUATORS
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.quantization import activation_scale, stored_type
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Computed, Constant, Real, Stored, Value
from nybble.graph.ops.table import Table
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType


@reads(*EVALUATORS, first=True)
def elementwise(importer: Importing, node: onnx.NodeProto) -> Value | None:
    """The values of a function of one activation; declines others, and those with a better reader."""
    regions, name = importer.regions, node.output[0]
    root = importer.values.get(regions.roots.get(name, ""))
    if not isinstance(root, Real) or not root.is_stored or root.padding is not None:
        return None
    is_part = name in regions.tabled or name in regions.inside
    if not root.is_uniform:
        if not is_part:
            return None
        raise OnnxImportError(
            f"{node.op_type} is computed from an activation with a scale for each channel: quantize it with one scale",
            node=label(node),
        )
    try:
        numbers = _numbers(importer, node, root)
    except OnnxImportError:
        if is_part:
            raise
        return None
    # Other nodes may need them too, if they read a part of the function.
    regions.numbers[name] = numbers
    return Computed(root, label(node), numbers) if is_part else None


def _numbers(importer: Importing, node: onnx.NodeProto, root: Real) -> Array:
    """The result of a node for each code of the activation, in float32 or in integers."""
    codes = _codes(importer, root)
    real = (codes * np.float64(root.unit[0])).astype(np.float32)
    given: list[Any] = []
    for place, source in enumerate(node.input):
        found = importer.values.get(source)
        if isinstance(found, Constant):
            given.append(found.real if node.op_type == "Gather" and place == 0 else found.real.reshape(()))
        elif source in importer.regions.roots:
            if source not in importer.regions.numbers:
                raise OnnxImportError(f"reads {source[:80]!r}, whose values are not known", node=label(node))
            given.append(importer.regions.numbers[source])
        else:
            given.append(real if source else None)
    try:
        with np.errstate(all="ignore"):
            made = np.asarray(EVALUATORS[node.op_type](node, [_wide(entry) for entry in given]))
    except OnnxImportError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        raise OnnxImportError(f"its inputs are not those of {node.op_type}", node=label(node)) from error
    narrow = made if made.dtype.kind in "iu" else made.astype(np.float32)
    return np.broadcast_to(narrow, codes.shape)


@reads("QuantizeLinear", first=True)
def tabled(importer: Importing, node: onnx.NodeProto) -> Value | None:
    """The Table of a function's values; declines other nodes."""
    found = importer.value(node, 0)
    if not isinstance(found, Computed):
        return None
    build, root = importer.build, found.root
    dtype, zero = stored_type(importer, node)
    scale = activation_scale(importer, node, root)
    if np.any(scale != scale[0]):
        raise OnnxImportError("a function of one activation needs one scale for all channels", node=label(node))
    steps = found.numbers.astype(np.float32) / np.float32(scale[0])
    if np.isnan(steps).any():
        raise OnnxImportError(f"what {found.name} gives is not a number for some codes", node=label(node))
    entries = np.clip(np.rint(steps.astype(np.float64)), dtype.minimum, dtype.maximum).astype(np.int64)
    made = build.add(
        Table(
            name=build.free(found.name),
            inputs=(root.value,),
            input_type=build.types[root.value].dtype,
            output_type=dtype,
            table=Tensor.from_array(DType.S16, entries),
            function=_function(importer, found),
        )
    )
    return Stored(made, zero, root.flat, layout=root.layout)


def _function(importer: Importing, found: Computed) -> str:
    """The usual name of a function: from the metadata of a model of ours, else found from its values."""
    build = importer.build
    if build.is_ours:
        said = build.hint(found.name).other.get("function")
        return said if isinstance(said, str) else ""
    if not np.isfinite(found.numbers).all():
        return ""
    return functions.name_of(_codes(importer, found.root) * found.root.unit[0], found.numbers)


def _codes(importer: Importing, root: Real) -> Array:
    dtype = importer.build.types[root.value].dtype
    return np.arange(dtype.minimum, dtype.maximum + 1)


def _wide(values: Any) -> Any:
    """Real numbers in float64, integers as they are."""
    return values.astype(np.float64) if isinstance(values, np.ndarray) and values.dtype.kind == "f" else values
