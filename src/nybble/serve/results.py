"""The outputs of a served network, and their form in the queue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nybble.graph import Graph
from nybble.graph.types import Array

#: The output of a network that classifies.
LOGITS = "logits"
#: Datatypes of the Open Inference Protocol, by NumPy's.
DATATYPES = {"float32": "FP32", "int32": "INT32", "int16": "INT16", "int8": "INT8", "uint8": "UINT8"}


@dataclass(frozen=True)
class Output:
    """An output: its name, NumPy dtype, and shape without the batch."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def datatype(self) -> str:
        """The dtype as the protocol calls it."""
        return DATATYPES[self.dtype.name]

    @property
    def nbytes(self) -> int:
        """Of one image."""
        return math.prod(self.shape) * self.dtype.itemsize


def outputs_of(graph: Graph) -> tuple[Output, ...]:
    """All outputs of a network, in its order."""
    return tuple(
        Output(name, np.dtype(graph.values[name].dtype.storage), graph.values[name].shape) for name in graph.outputs
    )


def packed(results: Mapping[str, Array], outputs: Sequence[Output]) -> Array:
    """The results of N images as one array, uint8 (N, bytes)."""
    count = len(results[outputs[0].name])
    parts = [np.ascontiguousarray(results[output.name]).reshape(count, -1).view(np.uint8) for output in outputs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def unpacked(values: Array, outputs: Sequence[Output]) -> dict[str, Array]:
    """The results of :func:`packed`, by name: (N, ...)."""
    found, first = {}, 0
    for output in outputs:
        part = np.ascontiguousarray(values[:, first : first + output.nbytes])
        found[output.name] = part.view(output.dtype).reshape(len(values), *output.shape)
        first += output.nbytes
    return found
