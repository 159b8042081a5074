"""An ONNX model under construction: nodes, constants, and finally the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from nybble.files import ONNX, FileError, write
from nybble.graph.onnx.errors import OnnxExportError
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType

#: A protobuf message may not be larger.
MAX_BYTES = (1 << 31) - 1

#: How constants of the graph are stored: four-bit types lie two a byte, low nibble first, there as here.
STORED = {
    DType.S4: TensorProto.INT4,
    DType.S8: TensorProto.INT8,
    DType.S32: TensorProto.INT32,
    DType.F32: TensorProto.FLOAT,
}


class Writer:
    """Collects nodes and constants.

    Values of the graph keep their names; other values of a node are named ``NODE/PART``.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._names: set[str] = set()

    def node(
        self, op: str, inputs: Sequence[str], output: str, *, name: str | None = None, **attributes: object
    ) -> str:
        """Append a node, called like its output unless it has a name; returns the output."""
        label = name or output
        while label in self._names:
            label += "_"
        self._names.add(label)
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=label, **attributes))
        return output

    def constant(self, label: str, values: ArrayLike, dtype: type = np.float32) -> str:
        """Add a constant; one of the same label is taken to be the same. Returns the label."""
        if label not in self.constants:
            self.constants[label] = numpy_helper.from_array(np.asarray(values, dtype=dtype), label)
        return label

    def tensor(self, label: str, tensor: Tensor) -> str:
        """Add a constant of integers as the graph holds them. Returns the label."""
        made = TensorProto(name=label, data_type=STORED[tensor.dtype], dims=tensor.shape, raw_data=tensor.raw())
        self.constants[label] = made
        return label

    def zero(self, label: str, kind: int) -> str:
        """Add a zero point of 0 of an ONNX element type. Returns the label."""
        self.constants[label] = TensorProto(name=label, data_type=kind, raw_data=b"\0")
        return label

    def model(
        self,
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        *,
        opset: int,
        ir_version: int,
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """The finished model, which ONNX's checker has passed, shapes and types included.

        Raises
        ------
        OnnxExportError
            If it would be larger than a protobuf message can be.
        """
        graph = helper.make_graph(self.nodes, "nybble", list(inputs), list(outputs), list(self.constants.values()))
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="nybble"
        )
        helper.set_model_props(made, dict(metadata or {}))
        if made.ByteSize() > MAX_BYTES:
            raise OnnxExportError(f"the model would take {made.ByteSize()} bytes; an ONNX file holds {MAX_BYTES}")
        onnx.checker.check_model(made, full_check=True)
        return made


def value_info(name: str, kind: int, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """Name, element type and shape of an input or output, with a batch dimension ``N`` before the shape."""
    return helper.make_tensor_value_info(name, kind, ["N", *shape])


def write_model(model: onnx.ModelProto, path: Path) -> int:
    """Write a model under a temporary name, then rename it. Returns its size in bytes.

    Raises
    ------
    FileError
        Naming the file, where it cannot be written, or one that is no ONNX file is there.
    """
    content: bytes = model.SerializeToString()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path.parent}: cannot be made: {error.strerror or error}") from error
    write(path, content, ONNX)
    return len(content)
