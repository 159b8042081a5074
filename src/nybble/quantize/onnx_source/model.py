"""An ONNX file as plain Python: nodes with their attributes, constants, one input, one output."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nybble.graph.types import Array
from nybble.quantize.errors import MissingExtraError, QuantizeError, SourceError

#: Elements of a computed constant at most; a damaged file may ask for any number.
_MOST_ELEMENTS = 1 << 24
#: Longest text of a file that an error repeats.
_LONGEST = 160
#: Operators on constants, as those that compute the shape of a Reshape.
FOLDED = frozenset(
    {"Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Gather", "Identity", "Mul", "Neg", "ReduceMean"}
    | {"Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)


@dataclass(frozen=True)
class OnnxNode:
    """One node; ``label`` is what errors call it."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: Any = field(repr=False)

    @property
    def label(self) -> str:
        """Name and operator."""
        name = self.name or next(iter(self.outputs), "")
        return f"{name[:_LONGEST]!r} ({self.op[:_LONGEST]})"

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
        Names of the image and of the result.
    channels : int
    image_size : (int, int) or None
        Rows and columns, where the file fixes them.
    opset : int
    """

    path: Path
    nodes: list[OnnxNode]
    constants: dict[str, Array]
    entry: str
    output: str
    channels: int
    image_size: tuple[int, int] | None
    opset: int


def read_onnx(path: Path) -> OnnxModel:
    """Read and check a file.

    Raises
    ------
    SourceError
        If it is no ONNX file, damaged, or no network of one image.
    MissingExtraError
        Without the package ``onnx``.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError("reading ONNX files needs the package onnx: pip install 'nybble[onnx]'")
    import onnx

    with reading(path):
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
        graph = proto.graph
        constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
        entries = [entry for entry in graph.input if entry.name not in constants]
        if len(entries) != 1 or len(graph.output) != 1:
            names = ", ".join(entry.name[:_LONGEST] for entry in (*entries, *graph.output)[:8])
            raise SourceError(
                f"{path}: has {len(entries)} inputs and {len(graph.output)} outputs ({names}); it must take one image "
                "and return logits: cut the file down with onnx.utils.extract_model"
            )
        kind = entries[0].type.tensor_type
        if kind.elem_type != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(kind.elem_type)
            raise SourceError(f"{path}: its input is {name}, not FLOAT; export the float network")
        shape = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
        channels, size = _image(path, shape)
        nodes = [_node(onnx, entry) for entry in graph.node]
        opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        return OnnxModel(path, nodes, constants, entries[0].name, graph.output[0].name, channels, size, opset)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes the reader raise becomes one SourceError."""
    try:
        yield
    except (QuantizeError, KeyboardInterrupt):
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # Protobuf, the checker and NumPy raise of all kinds.
        reason = str(error).strip().split("\n")[0][:_LONGEST] or type(error).__name__
        raise SourceError(f"{path}: is no ONNX file that can be read, or a damaged one: {reason}") from error


def _image(path: Path, shape: list[int]) -> tuple[int, tuple[int, int] | None]:
    """Channels, and rows and columns if they are fixed, of an input (N, C, H, W); 0 stands for what is not fixed."""
    if len(shape) != 4:
        raise SourceError(f"{path}: its input has {len(shape)} dimensions; it must be images (N, C, H, W)")
    if shape[1] not in (1, 3):
        hint = (
            "; channels come last: export with channels first (tf2onnx: --inputs-as-nchw)" if shape[3] in (1, 3) else ""
        )
        raise SourceError(f"{path}: its input has {shape[1] or 'any number of'} channels; 1 or 3 are possible{hint}")
    return shape[1], (shape[2], shape[3]) if shape[2] and shape[3] else None


def _node(onnx: Any, entry: Any) -> OnnxNode:
    attributes: dict[str, Any] = {}
    for item in entry.attribute:
        value = onnx.helper.get_attribute_value(item)
        attributes[item.name] = value.decode(errors="replace") if isinstance(value, bytes) else value
    return OnnxNode(entry.op_type, entry.name, tuple(entry.input), tuple(entry.output), attributes, entry)


def folded(node: OnnxNode, constants: dict[str, Array], opset: int) -> dict[str, Array]:
    """The results of a node that reads constants alone, by name."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    feeds = {name: constants[name] for name in node.inputs if name}
    if node.op == "ConstantOfShape" and int(feeds[node.inputs[0]].astype("float64").prod()) > _MOST_ELEMENTS:
        raise ValueError("a constant of absurd size")
    graph = helper.make_graph(
        [node.proto],
        "constant",
        [helper.make_empty_tensor_value_info(name) for name in feeds],
        [helper.make_empty_tensor_value_info(name) for name in node.outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    results: list[Array] = ReferenceEvaluator(model).run(None, feeds)
    return dict(zip(node.outputs, results, strict=True))
