"""Reshaping a batch: what a file says of all its images becomes what it says of one.

Files write shapes with the batch in them: as a number where it is fixed, computed from ``Shape`` where it is not.
They are read for a batch of a certain size, and what is said of the whole is resolved there. Reshaping keeps images
apart if, and only if, the first extent stays the batch: values lie in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nybble.quantize.ir.vocabulary import Stack, Translation, Unsupported
from nybble.quantize.ops.onnx_arguments import Value, constant_of


def squeeze_one(node: Any, inputs: Sequence[Value | None]) -> tuple[Any, list[Value | None]]:
    """A Squeeze as it reads for one image, with axes.

    Raises
    ------
    Unsupported
        If it takes the batch away.
    """
    x = _reshaped(inputs)
    if "axes" in node.attributes or any(value is not None for value in inputs[1:]):
        return node, list(inputs)
    axes = [axis for axis, extent in enumerate((node.batch, *x.shape)) if extent == 1]
    if 0 in axes:
        raise Unsupported("without axes it takes the batch of one image away as well; name the axes")
    return replace(node, attributes={}), [x, np.array(axes, np.int64)]


def reshape_one(node: Any, inputs: Sequence[Value | None]) -> tuple[Any, list[Value | None]]:
    """A Reshape as it reads for one image: to [1, ...] without 0 and -1.

    Raises
    ------
    Unsupported
        If the images of a batch are mixed, or the new shape does not hold what it is made of.
    """
    x = _reshaped(inputs)
    target = constant_of(inputs[1], "the new shape").reshape(-1).tolist()
    shape = _resolved(target, (node.batch, *x.shape), allow_zero=bool(node.get("allowzero", 0)))
    if shape[:1] != [node.batch]:
        # A literal 1 in a file for any batch: whoever wrote it had one image in mind.
        is_one_image = target[:1] == [1] and node.is_for_any_batch
        alone = _resolved(target, (1, *x.shape), allow_zero=False) if is_one_image else []
        if alone[:1] != [1] or math.prod(alone) != math.prod(x.shape):
            raise Unsupported(
                f"reshaping (N, {', '.join(map(str, x.shape))}) to {target} does not keep the images apart; export "
                "the network with a batch of one image"
            )
        shape = alone
    attributes = {name: value for name, value in node.attributes.items() if name != "allowzero"}
    return replace(node, attributes=attributes), [x, np.array([1, *shape[1:]], np.int64)]


def _reshaped(inputs: Sequence[Value | None]) -> Translation | Stack:
    x = inputs[0]
    if not isinstance(x, Translation | Stack):
        raise Unsupported("it must reshape what depends on the image")
    return x


def _resolved(target: list[int], whole: tuple[int, ...], *, allow_zero: bool) -> list[int]:
    """A new shape with its 0 (the extent that is there) and -1 (what is left over) replaced."""
    wanted = list(target)
    if not allow_zero:
        if any(size == 0 and place >= len(whole) for place, size in enumerate(wanted)):
            raise Unsupported(f"{target} copies an extent that is not there")
        wanted = [whole[place] if size == 0 else size for place, size in enumerate(wanted)]
    if wanted.count(-1) > 1 or min(wanted, default=-1) < -1 or 0 in wanted:
        raise Unsupported(f"{target} is not a shape")
    total = math.prod(whole)
    if -1 in wanted:
        known = math.prod(size for size in wanted if size != -1)
        wanted[wanted.index(-1)] = total // known
    if math.prod(wanted) != total:
        return []
    return wanted
