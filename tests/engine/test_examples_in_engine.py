"""The examples of operations that move codes or requantize by sign, alone and between layers, on every kernel set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from agreement import ISAS, assert_agrees

from nybble.graph import Conv2d, DType, Graph, Input, Node, Quantize, Tensor
from nybble.graph.ops import Example, operation_named
from nybble.graph.types import ACTIVATIONS, SUMS, Array

#: The steps have no kernels of instruction sets; what is around them has.
SOME = (ISAS[0], ISAS[-1])
KINDS = ("DepthToSpace", "PReLU", "PadEdges", "PickChannels", "ResizeBilinear", "ResizeNearest", "Slice")
#: Of one kind no more: every third, every fourth and so on of the others.
MOST = 12


def examples(dtypes: tuple[DType, ...]) -> list[Any]:
    """Those that read one of some types, with a name for each."""
    found = []
    for kind in KINDS:
        operation = operation_named(kind)
        assert operation is not None
        fitting = [e for e in operation.examples(np.random.default_rng(0)) if e.inputs[0].dtype in dtypes]
        some = fitting[:: -(-len(fitting) // MOST)]
        found += [pytest.param(example, id=f"{kind}-{place}") for place, example in enumerate(some)]
    return found


def drawn(dtype: DType, *shape: int) -> Array:
    random = np.random.default_rng(3)
    values = random.integers(dtype.minimum, dtype.maximum, shape, endpoint=True)
    values[1:2] = np.where(random.random(values[1:2].shape) < 0.5, dtype.minimum, dtype.maximum)
    return values.astype(dtype.storage)


def between_layers(example: Example[Any]) -> Graph:
    """Weights make what the node reads, and read what it gives."""
    random = np.random.default_rng(4)
    (kind,) = example.inputs
    channels, *extents = kind.shape
    image = extents or [1, 1]
    weight = Tensor.from_array(DType.S4, random.integers(-8, 7, (channels, 2, 1, 1), endpoint=True))
    nodes: list[Node] = [
        Conv2d(name="before" if kind.dtype not in SUMS else "x", inputs=("in",), input_type=DType.S8, weight=weight)
    ]
    if kind.dtype not in SUMS:
        factor = Tensor.from_array(DType.U16, random.integers(1, 60, channels))
        nodes.append(
            Quantize(name="x", inputs=("before",), input_type=DType.S32, output_type=kind.dtype, factor=factor, shift=9)
        )
    nodes.append(example.node)
    graph = Graph([Input(name="in", dtype=DType.S8, shape=(2, *image))], nodes, [example.node.name])
    made = graph.values[example.node.name]
    behind = Tensor.from_array(DType.S4, random.integers(-8, 7, (4, made.shape[0], 1, 1), endpoint=True))
    reader = Conv2d(name="after", inputs=(example.node.name,), input_type=made.dtype, weight=behind)
    return Graph(graph.inputs, [*nodes, reader], ["after"])


@pytest.mark.parametrize("example", examples(ACTIVATIONS))
def test_alone(example: Example[Any]) -> None:
    (kind,) = example.inputs
    graph = Graph([Input(name="x", dtype=kind.dtype, shape=kind.shape)], [example.node], [example.node.name])
    assert_agrees(graph, drawn(kind.dtype, 9, *kind.shape), isas=SOME[:1])


@pytest.mark.parametrize("example", examples((*ACTIVATIONS, DType.S32)))
def test_between_layers(example: Example[Any]) -> None:
    graph = between_layers(example)
    assert_agrees(graph, drawn(DType.S8, 9, *graph.inputs[0].shape), (2,), SOME)
