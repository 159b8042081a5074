"""Weighted sums of convolutions and linear layers: their checks and bounds, exact products, and their lines."""

from __future__ import annotations

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.tensor import Tensor
from nybble.graph.types import Array, DType
from nybble.graph.value_type import ValueType

WEIGHTS = (DType.S4, DType.S8)
BIASES = (DType.S16, DType.S32)


def check_weight(node: Node, weight: Tensor, rank: int) -> None:
    """Raise GraphError unless the weight is of a type and a number of dimensions that a weight may have."""
    if weight.dtype not in WEIGHTS:
        raise GraphError(f"weights cannot be {weight.dtype}", node=node.name, field="weight")
    if len(weight.shape) != rank or min(weight.shape) < 1:
        raise GraphError(f"weight of shape {weight.shape} needs {rank} dimensions", node=node.name, field="weight")


def largest_sum(node: Node, weight: Tensor, bias: Tensor | None, source: ValueType) -> int:
    """Largest magnitude of the weighted sum: input times the sum of |weight|, plus |bias|.

    Raises GraphError if the bias is of a wrong type or shape.
    """
    flat = weight.numpy().reshape(weight.shape[0], -1)
    # |s8| reaches 128, so it needs the unsigned view of the int8 result.
    sums = np.abs(flat).view(np.uint8).sum(axis=1, dtype=np.int64)
    # It fits 64 bits: codes are at most 2^8, weights 2^7, and no tensor has more than 2^31 elements.
    worst = source.magnitude * sums
    if bias is not None:
        if bias.dtype not in BIASES:
            raise GraphError(f"bias cannot be {bias.dtype}", node=node.name, field="bias")
        if bias.shape != weight.shape[:1]:
            raise GraphError(
                f"has {bias.size} biases for {weight.shape[0]} output channels", node=node.name, field="bias"
            )
        worst += np.abs(bias.numpy().astype(np.int64))
    return int(worst.max())


def exact_float(source: ValueType, weight: Array) -> type[np.float32] | type[np.float64]:
    """The narrowest float in which sums over the weight's last axis are exact, in whatever order they are added up.

    No partial sum exceeds ``largest input * sum |weight|``. Integers up to 2**24 are exact in float32; beyond that
    float64 is, as the sums of a valid graph stay below 2**31. The bias is added in integers.
    """
    sums = np.abs(weight.astype(np.int16)).sum(axis=-1, dtype=np.int64)
    bound = source.dtype.magnitude * int(sums.max())
    return np.float32 if bound <= 1 << 24 else np.float64


def bias_values(bias: Tensor | None, channels: int) -> Array:
    """The biases in 32 bits; zeros where there are none."""
    return np.zeros(channels, np.int32) if bias is None else bias.numpy().astype(np.int32)


def read_sum_mode(file: LayerFile) -> tuple[DType, ...]:
    """The types of the input, the weight and the sums that ``compute_mode`` names."""
    modes = file.mode(3)
    file.expect("compute_mode", modes[2], DType.S32, f"the output of {file.kind}:")
    return modes


def read_bias(folder: ModelFolder, file: LayerFile, count: int) -> Tensor | None:
    """The bias of so many outputs, or ``None`` where the file has none."""
    if not file.has("bias"):
        return None
    reference = file.tensor("bias", BIASES, 1)
    file.expect("bias", reference.shape[0], count, "as many as outputs:")
    return folder.tensor(file, "bias", reference, reference.shape)


def write_weights(weight: Tensor, bias: Tensor | None, output: LayerOutput) -> None:
    """Add the lines and tensors of a weight and its bias."""
    if bias is not None:
        output.add_tensor("bias", bias, bias.shape)
    output.add_tensor("weight", weight, weight.shape)
