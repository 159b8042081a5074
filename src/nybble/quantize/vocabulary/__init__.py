"""What a float network may consist of: one builder for each kind of operation, for every front end.

A builder takes values (:class:`Translation`) and constants (tensors), checks them, and returns the operation. PyTorch
capture and the ONNX reader only say which builder a call or a node stands for, so both accept the same networks.
"""

from nybble.quantize.vocabulary.arithmetic import (
    add,
    affine,
    bound_of,
    clip,
    divide,
    multiply,
    negate,
    softmax,
    stack,
    subtract,
    sum_of,
    sum_of_stack,
)
from nybble.quantize.vocabulary.moving import concat, pad, permute, pick, reshape, select, skip, squeeze, unsqueeze
from nybble.quantize.vocabulary.value import Made, Result, Stack, Translation, Unsupported, image, settled, value_of
from nybble.quantize.vocabulary.weighted import batch_norm, conv, dense, matmul
from nybble.quantize.vocabulary.windows import adaptive_pool, average_pool, largest, max_pool, mean, total

__all__ = [
    "Made",
    "Result",
    "Stack",
    "Translation",
    "Unsupported",
    "adaptive_pool",
    "add",
    "affine",
    "average_pool",
    "batch_norm",
    "bound_of",
    "clip",
    "concat",
    "conv",
    "dense",
    "divide",
    "image",
    "largest",
    "matmul",
    "max_pool",
    "mean",
    "multiply",
    "negate",
    "pad",
    "permute",
    "pick",
    "reshape",
    "select",
    "settled",
    "skip",
    "softmax",
    "squeeze",
    "stack",
    "subtract",
    "sum_of",
    "sum_of_stack",
    "total",
    "unsqueeze",
    "value_of",
]
