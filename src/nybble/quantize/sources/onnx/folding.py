"""Constants that nodes of an ONNX file compute: how large a result is going to be comes before computing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.types import Array
from nybble.quantize.ir.vocabulary import Unsupported
from nybble.quantize.sources.onnx.model import OnnxNode

#: Elements that a computed constant may have, unless the file itself holds more.
MOST_ELEMENTS = 1 << 22
#: Elements of all computed constants: so many, and so many times what the file itself holds.
MOST_IN_ALL, MOST_TIMES = 1 << 23, 8
_Sizes = Callable[[OnnxNode, list[Array]], int]


def _elementwise(node: OnnxNode, inputs: list[Array]) -> int:
    try:
        return math.prod(np.broadcast_shapes(*(array.shape for array in inputs)))
    except ValueError:
        shapes = ", ".join(str(array.shape) for array in inputs[:3])
        raise Unsupported(f"constants of shapes {shapes} do not fit each other") from None


def _no_more(node: OnnxNode, inputs: list[Array]) -> int:
    """What moves, picks out, or reduces, gives no more than it reads."""
    return inputs[0].size


def _joined(node: OnnxNode, inputs: list[Array]) -> int:
    return sum(array.size for array in inputs)


def _filled(node: OnnxNode, inputs: list[Array]) -> int:
    return math.prod(_extents(inputs[0]))


def _expanded(node: OnnxNode, inputs: list[Array]) -> int:
    # Axes of 1 on either side take the other's extent; those that do not fit, the evaluation refuses.
    own, wanted = inputs[0].shape, _extents(inputs[1])
    rank = max(len(own), len(wanted))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in (own, wanted)]
    return math.prod(max(pair) if 0 not in pair else 0 for pair in zip(*padded, strict=True))


def _tiled(node: OnnxNode, inputs: list[Array]) -> int:
    return inputs[0].size * math.prod(_extents(inputs[1]))


def _counted(node: OnnxNode, inputs: list[Array]) -> int:
    if any(array.size != 1 for array in inputs):
        raise Unsupported("it does not count from a number to a number")
    start, limit, step = (float(array.reshape(-1)[0]) for array in inputs)
    if step == 0 or not all(map(math.isfinite, (start, limit, step))):
        raise Unsupported("it counts in steps of 0 or to infinity")
    return max(0, math.ceil((limit - start) / step))


def _gathered(node: OnnxNode, inputs: list[Array]) -> int:
    axis = node.get("axis", 0)
    if not -inputs[0].ndim <= axis < inputs[0].ndim:
        raise Unsupported(f"its axis {axis} is not one of what it reads")
    count: int = inputs[1].size * (inputs[0].size // max(1, inputs[0].shape[axis]))
    return count


def _extents(array: Array) -> list[int]:
    extents: list[int] = array.reshape(-1).tolist()
    if array.dtype.kind not in "iu" or len(extents) > 8 or min(extents, default=0) < 0:
        raise Unsupported(f"{extents[:8]} is not a shape")
    return extents


_UNARY = ("Abs", "Cast", "Ceil", "Erf", "Exp", "Floor", "Identity", "Log", "Neg", "Not", "Reciprocal", "Sign", "Sqrt")
_REDUCING = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
#: Operators that compute constants, how many elements they give at most, and how many inputs they have.
_FOLDED: dict[str, tuple[_Sizes, range]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Equal", "Greater", "Less"), (_elementwise, range(2, 3))),
    **dict.fromkeys(("Max", "Min"), (_elementwise, range(1, 9))),
    "Where": (_elementwise, range(3, 4)),
    **dict.fromkeys((*_UNARY, "Shape", "Size", "Tanh", "Transpose"), (_no_more, range(1, 2))),
    **dict.fromkeys((*_REDUCING, "Reshape", "Squeeze", "Unsqueeze"), (_no_more, range(1, 3))),
    "Slice": (_no_more, range(1, 6)),
    "Clip": (_no_more, range(1, 4)),
    "Concat": (_joined, range(1, 1 << 10)),
    "ConstantOfShape": (_filled, range(1, 2)),
    "Expand": (_expanded, range(2, 3)),
    "Tile": (_tiled, range(2, 3)),
    "Range": (_counted, range(3, 4)),
    "Gather": (_gathered, range(2, 3)),
}
#: Operators on constants, as those that compute the shape of a Reshape.
FOLDED = frozenset(_FOLDED) | {"Constant"}


class Folder:
    """Computes constants within limits that follow from the size of the file.

    Parameters
    ----------
    constants : mapping of str to ndarray
        What the file holds.
    opset : int
    """

    def __init__(self, constants: Mapping[str, Array], opset: int) -> None:
        stored = sum(array.size for array in constants.values())
        self._opset = opset
        self._most = max(MOST_ELEMENTS, stored)
        self._left = MOST_IN_ALL + MOST_TIMES * stored

    def __call__(self, node: OnnxNode, constants: Mapping[str, Array]) -> dict[str, Array]:
        """The results of a node that reads ``constants`` alone, by name.

        Raises
        ------
        Unsupported
            If the operator is none of those that are computed, its inputs do not fit it, or too much would come out.
        """
        if node.op == "Constant":
            results = [_constant(node)]
        else:
            self._spend(node, [constants[name] for name in node.inputs if name])
            results = self._computed(node, {name: constants[name] for name in node.inputs if name})
        if len(results) != len(node.outputs):
            raise Unsupported("only its first result can be computed")
        return dict(zip(node.outputs, results, strict=True))

    def _spend(self, node: OnnxNode, inputs: list[Array]) -> None:
        sizes, counts = _FOLDED[node.op]
        if len(inputs) not in counts:
            raise Unsupported(f"it has {len(inputs)} inputs")
        count = sizes(node, inputs)
        if count > self._most:
            raise Unsupported(f"it computes a constant of {count} elements; {self._most} are possible")
        self._left -= count
        if self._left < 0:
            raise Unsupported("constants of absurd size are computed; let onnxsim compute them")

    def _computed(self, node: OnnxNode, feeds: dict[str, Array]) -> list[Array]:
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        graph = helper.make_graph(
            [node.proto],
            "constant",
            [helper.make_empty_tensor_value_info(name) for name in feeds],
            [helper.make_empty_tensor_value_info(name) for name in node.outputs],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self._opset)])
        try:
            with np.errstate(all="ignore"):
                found: list[Any] = ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:  # Whatever ONNX's evaluator makes of attributes and shapes that do not fit.
            reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
            raise Unsupported(f"its constants cannot be computed: {reason}") from error
        results = [np.asarray(value) for value in found]
        if any(array.dtype.kind not in "iufb" for array in results):
            raise Unsupported("it computes a constant of no numeric type that is known")
        return results


def _constant(node: OnnxNode) -> Array:
    from nybble.graph.onnx.load import values_of

    for name, value in node.attributes.items():
        if name == "value":
            try:
                return values_of(value)
            except OnnxImportError as error:
                raise Unsupported(error.message) from error
        if name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    raise Unsupported("a constant of text, or a sparse one, has no counterpart")
