"""What the inputs and attributes of ONNX nodes say, in the words of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from nybble.graph import Padding, Pair
from nybble.graph.ops.windows import output_extent
from nybble.graph.types import Array
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Translation, Unsupported

#: What a node reads: values that depend on the image, and constants.
Value: TypeAlias = Translation | vocabulary.Stack | Array
#: What a builder of the vocabulary returns, or a constant.
Result: TypeAlias = vocabulary.Result | Array


def value_of(value: Value | None) -> Translation:
    """A value that depends on the image, or Unsupported."""
    return vocabulary.value_of(value)


def image_of(value: Value | None) -> Translation:
    """A value with rows and columns, or Unsupported."""
    return vocabulary.image(value)


def operand_of(value: Value | None) -> Translation | torch.Tensor:
    """A value as it is, or a constant as a tensor."""
    return value if isinstance(value, Translation) else tensor_of(constant_of(value, "what is not an image"))


def constant_of(value: Value | None, what: str) -> Array:
    """A constant, or Unsupported; ``what`` says what it is for."""
    if not isinstance(value, np.ndarray):
        raise Unsupported(f"{what} must be constant; simplify the file (onnxsim) if they only look computed")
    return value


def tensor_of(array: Array) -> torch.Tensor:
    """A float32 copy."""
    return torch.from_numpy(np.array(array, np.float32))


def attribute_pair(node: Any, name: str) -> Pair:
    """An attribute of rows and columns, 1 where it is absent."""
    given = node.get(name, [1, 1])
    if len(given) != 2:
        raise Unsupported(f"its {name} must have two extents")
    return Pair(*given)


def padding_of(node: Any, x: Translation, window: Pair, stride: Pair, dilation: Pair) -> Padding:
    """What ``pads`` or ``auto_pad`` says; SAME is that of TensorFlow."""
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sides = []
        for size, extent, step, spread in zip(x.shape[1:], window, stride, dilation, strict=True):
            total = max((-(-size // step) - 1) * step + spread * (extent - 1) + 1 - size, 0)
            small, large = total // 2, total - total // 2
            sides.append((small, large) if mode == "SAME_UPPER" else (large, small))
        return Padding(sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    given = [0] * 4 if mode == "VALID" else node.get("pads", [0] * 4)
    if len(given) != 4 or min(given) < 0:
        raise Unsupported(f"its padding {list(given)} has no counterpart")
    return Padding(*given)


def extents_of(
    x: Translation, window: Pair, stride: Pair, padding: Padding, dilation: Pair, ceil_mode: bool = False
) -> Sequence[int]:
    """Rows and columns of what windows produce, in PyTorch's ceil mode if asked."""
    if min(*window, *stride, *dilation) < 1:
        raise Unsupported("its window has extents below 1")
    found = [
        output_extent(size, extent, step, before, after, spread, ceil_mode)
        for size, extent, step, before, after, spread in zip(
            x.shape[1:], window, stride, padding[:2], padding[2:], dilation, strict=True
        )
    ]
    if min(found) < 1:
        raise Unsupported(f"its window of {window.rows}x{window.columns} does not fit {x.shape[1]}x{x.shape[2]} pixels")
    return found


def axes_of(node: Any, axes: Value | None) -> list[int]:
    """Axes as an attribute, or as an input since opset 13 or 18."""
    found: list[int] = node.get("axes", []) if axes is None else constant_of(axes, "its axes").reshape(-1).tolist()
    return found


def pool_of(node: Any, value: Value) -> tuple[Translation, Pair, Pair, Padding]:
    """The image that a pool reads, its window, stride and padding."""
    x = image_of(value)
    given = node.get("kernel_shape", [])
    if len(given) != 2:
        raise Unsupported("its window must have two extents")
    window, stride, dilation = Pair(*given), attribute_pair(node, "strides"), attribute_pair(node, "dilations")
    return x, window, stride, padding_of(node, x, window, stride, dilation)


def check_bias(constants: Sequence[Array], outputs: int, sizes: Sequence[int]) -> None:
    """Unsupported unless the second of a layer's constants, where it has two, is a bias of one of these sizes."""
    if len(constants) == 2 and (constants[1].size not in sizes or constants[1].shape[:-1] not in ((), (1,))):
        raise Unsupported(f"its bias of shape {constants[1].shape} is not that of {outputs} outputs")


def constants_behind(inputs: Sequence[Value | None]) -> list[Array]:
    """The constants among what a node reads, but for its first input."""
    return [value for value in inputs[1:] if isinstance(value, np.ndarray)]
