"""An ONNX file as plain Python: nodes with their attributes, constants, one input, one output."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nybble.graph.types import Array
from nybble.graph.value_type import MAX_EXTENT
from nybble.quantize.errors import MissingExtraError, SourceError

#: The operator sets that are read: from the first whose operators mean what those of today mean.
OPSETS = range(7, 29)
#: The batch that a file without a fixed one is read with; a size that images and layers hardly have.
STAND_IN = 11
#: Far above any image network; what follows looks at each of them several times.
MOST_NODES = 1 << 15
#: Longest text of a file that an error repeats, and the most names.
_LONGEST, _MOST = 160, 8
#: From channels last to channels first.
_TO_FIRST = [0, 3, 1, 2]


@dataclass(frozen=True)
class OnnxNode:
    """One node; ``label`` is what errors call it, ``batch`` the number of images that the file is read with."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: Any = field(repr=False)
    batch: int = 1
    domain: str = ""

    @property
    def label(self) -> str:
        """Name and operator."""
        name = self.name or next(iter(self.outputs), "")
        return f"{name[:_LONGEST]!r} ({self.op[:_LONGEST]})"

    @property
    def is_for_any_batch(self) -> bool:
        """Whether the file fixes no batch."""
        return self.batch == STAND_IN

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute; text as ``str``, lists as ``list``."""
        return self.attributes.get(name, default)


@dataclass
class OnnxModel:
    """What of a file matters here.

    Attributes
    ----------
    path : Path
    nodes : list of OnnxNode
        Each reads only what came before.
    constants : dict of str to ndarray
    entry, output : str
        Names of the image, channels first, and of the result.
    channels : int
    image_size : (int, int) or None
        Rows and columns, where the file fixes them.
    opset : int
    batch : int
        Images that its shapes are computed for: as many as it fixes, else ``STAND_IN``.
    outputs : tuple of str
        Names of all results of a network that is not a classifier; else empty.
    """

    path: Path
    nodes: list[OnnxNode]
    constants: dict[str, Array]
    entry: str
    output: str
    channels: int
    image_size: tuple[int, int] | None
    opset: int
    batch: int
    outputs: tuple[str, ...] = ()


def read_onnx(path: Path, output: str | None = None) -> OnnxModel:
    """Read and check a file.

    Nothing in it is trusted: see :func:`nybble.graph.onnx.load.load`. Tensors may lie in files beside it, where
    PyTorch's exporter writes them.

    Parameters
    ----------
    path : Path
    output : str, optional
        Which of its outputs to read, where it has several: a name, or a number counted from 0.

    Raises
    ------
    SourceError
        If it is no ONNX file, damaged, or no network of one image.
    MissingExtraError
        Without the package ``onnx``.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError("reading ONNX files needs the package onnx: pip install 'nybble[quantize]'")
    from nybble.graph.onnx.errors import OnnxImportError
    from nybble.graph.onnx.load import load, values_of

    try:
        proto = load(path, opsets=OPSETS)
        constants = {entry.name: values_of(entry) for entry in proto.graph.initializer}
    except OnnxImportError as error:
        raise SourceError(str(error) if error.path is not None else f"{path}: {error}") from error
    graph = proto.graph
    if len(graph.node) > MOST_NODES:
        raise SourceError(f"{path}: has {len(graph.node)} nodes; an image network has {MOST_NODES} at most")
    entries = [entry for entry in graph.input if entry.name not in constants]
    if len(entries) != 1:
        raise SourceError(
            f"{path}: has {len(entries)} inputs ({_listed(entries)}); it must take one image: cut the file down with "
            "onnx.utils.extract_model"
        )
    batch, channels, size, is_last = _image(path, entries[0])
    nodes = [replace(_node(path, entry), batch=batch) for entry in graph.node]
    if is_last:
        nodes = _channels_first(path, nodes, entries[0].name)
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    outputs = () if output is not None else _tensors(graph)
    chosen = outputs[-1] if outputs else _output(path, graph, output)
    return OnnxModel(path, nodes, constants, entries[0].name, chosen, channels, size, opset, batch, outputs)


def _tensors(graph: Any) -> tuple[str, ...]:
    """The outputs where one of them is no (N, classes): such a file holds no classifier."""
    shapes = [[dim.dim_value for dim in entry.type.tensor_type.shape.dim] for entry in graph.output]
    if any(len(shape) > 2 and any(extent != 1 for extent in shape[2:]) for shape in shapes):
        return tuple(str(entry.name) for entry in graph.output)
    return ()


def _output(path: Path, graph: Any, output: str | None) -> str:
    names = [entry.name for entry in graph.output]
    if output is None and len(names) == 1:
        return str(names[0])
    if output is not None and output not in names and output.isdecimal() and int(output[:9]) < len(names):
        return str(names[int(output[:9])])
    if output not in names:
        what = f"has no output {output[:_LONGEST]!r}" if output is not None else f"has {len(names)} outputs"
        raise SourceError(f"{path}: {what}; choose one with --output: {_listed(graph.output)}")
    return str(output)


def _listed(entries: Any) -> str:
    names = [entry.name[:_LONGEST] for entry in entries]
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _image(path: Path, entry: Any) -> tuple[int, int, tuple[int, int] | None, bool]:
    """Batch, channels, and rows and columns if they are fixed, of an input, and whether its channels come last."""
    from onnx import TensorProto

    kind = entry.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        known = kind.elem_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(kind.elem_type) if known else f"of type {kind.elem_type}"
        raise SourceError(f"{path}: its input is {name}, not FLOAT; export the float network")
    # 0 stands for what is not fixed.
    shape = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if len(shape) != 4:
        raise SourceError(f"{path}: its input has {len(shape)} dimensions; it must be images (N, C, H, W)")
    if min(shape) < 0 or max(shape) > MAX_EXTENT:
        raise SourceError(f"{path}: its input has an impossible shape {shape}")
    batch, *rest = shape
    is_last = rest[0] not in (1, 3) and rest[2] in (1, 3)
    channels, rows, columns = (rest[2], rest[0], rest[1]) if is_last else rest
    if channels not in (1, 3):
        raise SourceError(f"{path}: its input has {channels or 'any number of'} channels; 1 or 3 are possible")
    return batch or STAND_IN, channels, (rows, columns) if rows and columns else None, is_last


def _channels_first(path: Path, nodes: list[OnnxNode], entry: str) -> list[OnnxNode]:
    """The nodes for an input (N, C, H, W), where the file takes (N, H, W, C) and turns it before all else."""
    found = []
    for node in nodes:
        if entry in node.inputs:
            if node.op != "Transpose" or node.get("perm") != _TO_FIRST:
                raise SourceError(
                    f"{path}: node {node.label}: reads images with channels last; export the network with channels "
                    "first (tf2onnx: --inputs-as-nchw)"
                )
            node = replace(node, op="Identity", attributes={})
        found.append(node)
    return found


def _node(path: Path, entry: Any) -> OnnxNode:
    from onnx import AttributeProto, helper

    attributes: dict[str, Any] = {}
    for item in entry.attribute:
        try:
            value = helper.get_attribute_value(item)
        except ValueError as error:
            raise SourceError(f"{path}: attribute {item.name[:_LONGEST]!r} has no value that is known") from error
        attributes[item.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        is_float = item.type in (AttributeProto.FLOAT, AttributeProto.FLOATS)
        # Exporters write bounds that are none as infinity.
        if is_float and entry.op_type != "Clip" and not np.isfinite(value).all():
            label = OnnxNode(entry.op_type, entry.name, (), tuple(entry.output), {}, entry).label
            raise SourceError(f"{path}: node {label}: its {item.name[:_LONGEST]} is NaN or infinite")
    inputs, outputs = tuple(entry.input), tuple(entry.output)
    return OnnxNode(entry.op_type, entry.name, inputs, outputs, attributes, entry, domain=entry.domain)
