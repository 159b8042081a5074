"""From a graph to an ONNX file, in one of the forms, with a report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import onnx

from nybble.graph.graph import Graph
from nybble.graph.onnx.exact_form import exact_model
from nybble.graph.onnx.float_form import float_model, photo_unit
from nybble.graph.onnx.form import writable
from nybble.graph.onnx.metadata import properties
from nybble.graph.onnx.qdq_form import qdq_model
from nybble.graph.onnx.writer import write_model

Form = Literal["qdq", "exact", "float"]


@dataclass(frozen=True)
class Export:
    """A model in memory and a report on it.

    Attributes
    ----------
    model : onnx.ModelProto
    form : str
    operators : mapping of str to int
        How often each ONNX operator occurs.
    wide : mapping of str to str
        For an exact model: the nodes that float32 could not hold, and the types that they use instead.
    """

    model: onnx.ModelProto
    form: Form
    operators: Mapping[str, int]
    wide: Mapping[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, str]:
        """Element type and shape of each input, by name."""
        return {entry.name: _described(entry) for entry in self.model.graph.input}

    @property
    def outputs(self) -> dict[str, str]:
        """Element type and shape of each output, by name."""
        return {entry.name: _described(entry) for entry in self.model.graph.output}

    @property
    def opset(self) -> int:
        """The version of ONNX's operators."""
        return int(self.model.opset_import[0].version)


def _described(entry: onnx.ValueInfoProto) -> str:
    kind = entry.type.tensor_type
    shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in kind.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(kind.elem_type).lower()} ({shape})"


def to_onnx(graph: Graph, form: Form = "qdq") -> Export:
    """Make an ONNX model, which ONNX's checker has passed.

    Parameters
    ----------
    graph : Graph
    form : str
        ``qdq``: QuantizeLinear and DequantizeLinear with INT4, UINT4, INT8 and UINT8, for runtimes that run such
        models in integers. ``exact``: equal to the reference in every value, on integer input. ``float``: the
        rounding left out, the clipping kept.

    Returns
    -------
    Export

    Raises
    ------
    OnnxExportError
        Naming a node that the form cannot express.
    ValueError
        If there is no such form.
    """
    if form not in get_args(Form):
        raise ValueError(f"form {form!r} is not one of {', '.join(get_args(Form))}")
    metadata = properties(writable(graph, form), form)
    wide: Mapping[str, str] = {}
    if form == "exact":
        model, wide = (made := exact_model(graph, metadata)).model, made.wide
    elif form == "float":
        model = float_model(graph, input_unit=photo_unit(graph), metadata=metadata)
    else:
        model = qdq_model(graph, metadata)
    operators = Counter(node.op_type for node in model.graph.node)
    return Export(model, form, dict(sorted(operators.items())), wide)


def export_onnx(graph: Graph, path: str | os.PathLike[str], form: Form = "qdq") -> Export:
    """Write :func:`to_onnx` to a file, under a temporary name first.

    Raises as :func:`to_onnx`, and NybbleError where the file cannot be written.
    """
    made = to_onnx(graph, form)
    write_model(made.model, Path(path))
    return made
