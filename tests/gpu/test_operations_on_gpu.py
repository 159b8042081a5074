"""Every registered operation on the emulated GPU: equal to the reference, or refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.cuda.device import GENERATIONS
from nybble.engine import Engine, EngineError
from nybble.graph import Conv2d, DType, Graph, GraphError, Input, Linear, Node, Quantize, ReLU, Scale, Tensor, ValueType
from nybble.graph.ops import Example, Operation, operations, register, unregister
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_absolute

pytestmark = NEEDS_EMULATOR

#: Examples of one operation that are run: as many, evenly spaced.
MOST = 9
#: What computes real numbers runs on the host, whatever the device is.
ON_DEVICE = [operation for operation in operations().values() if not operation.on_host]
OPERATIONS = pytest.mark.parametrize("operation", ON_DEVICE, ids=lambda operation: operation.kind)


def some(operation: Operation[Any]) -> list[Example[Any]]:
    found = list(operation.examples(np.random.default_rng(0)))
    return found[:: -(-len(found) // MOST)]


def made(name: str, kind: ValueType, extents: tuple[int, ...]) -> list[Node]:
    """Nodes that compute a value of a type from the image ``in`` of two channels."""
    random = np.random.default_rng(len(name))
    channels, *size = kind.shape
    window = [whole - part + 1 for whole, part in zip(extents, size, strict=True)] if size else list(extents)
    weight = Tensor.from_array(DType.S4, random.integers(-8, 7, (channels, 2, *window), endpoint=True))
    is_sums = kind.dtype is DType.S32
    sums = name if is_sums else f"{name}_sums"
    nodes: list[Node] = [
        Conv2d(name=sums, inputs=("in",), input_type=DType.S8, weight=weight)
        if size
        else Linear(name=sums, inputs=("in",), input_type=DType.S8, weight=flat(weight))
    ]
    if kind.dtype in ACTIVATIONS:
        factor = Tensor.from_array(DType.U16, random.integers(1, 60, channels))
        nodes.append(
            Quantize(name=name, inputs=(sums,), input_type=DType.S32, output_type=kind.dtype, factor=factor, shift=9)
        )
    elif kind.dtype is DType.U31:
        nodes.append(ReLU(name=name, inputs=(sums,), maximum=None))
    return nodes


def flat(weight: Tensor) -> Tensor:
    return Tensor.from_array(weight.dtype, weight.numpy().reshape(weight.shape[0], -1))


def behind_layers(example: Example[Any]) -> Graph | None:
    """A network in which a node reads what layers compute; ``None`` if their sums are too large for it."""
    shapes = [kind.shape[1:] for kind in example.inputs if len(kind.shape) == 3]
    extents = tuple(map(max, zip(*shapes, strict=True))) if shapes else (1, 1)
    entry = Input(name="in", dtype=DType.S8, shape=(2, *extents))
    kinds = dict(zip(example.node.inputs, example.inputs, strict=True))
    nodes = [node for name, kind in kinds.items() for node in made(name, kind, extents)]
    try:
        return Graph([entry], [*nodes, example.node], [example.node.name])
    except GraphError:
        return None


def drawn(entry: Input) -> Array:
    random = np.random.default_rng(3)
    values = random.integers(entry.dtype.minimum, entry.dtype.maximum, (3, *entry.shape), endpoint=True)
    values[1:2] = np.where(random.random(values[1:2].shape) < 0.5, entry.dtype.minimum, entry.dtype.maximum)
    return values.astype(entry.dtype.storage)


def assert_runs(graph: Graph, generation: int) -> None:
    x, output = drawn(graph.inputs[0]), graph.outputs[0]
    with Engine(graph, device="cuda-emulated", isa=f"sm_{generation}") as engine:
        found = engine.run(x, integers=True)[output]
    expected = interpret(graph, x)[output]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


@OPERATIONS
def test_it_runs_behind_layers(operation: Operation[Any]) -> None:
    graphs = [graph for example in some(operation) if (graph := behind_layers(example)) is not None]
    assert graphs
    for number, graph in enumerate(graphs):
        assert_runs(graph, GENERATIONS[number % len(GENERATIONS)])


@OPERATIONS
def test_it_runs_alone(operation: Operation[Any]) -> None:
    for number, example in enumerate(some(operation)):
        if len(example.inputs) == 1 and example.inputs[0].dtype in ACTIVATIONS:
            (kind,), (name,) = example.inputs, example.node.inputs
            graph = Graph([Input(name=name, dtype=kind.dtype, shape=kind.shape)], [example.node], [example.node.name])
            assert_runs(graph, GENERATIONS[number % len(GENERATIONS)])


def test_an_operation_that_the_gpu_does_not_have_is_refused_in_one_line() -> None:
    operation = outside_absolute.operation
    register(operation)
    try:
        (example, *_) = operation.examples(np.random.default_rng(0))
        graph = behind_layers(example)
        assert graph is not None
        with pytest.raises(EngineError) as caught:
            Engine(graph, device="cuda-emulated")
    finally:
        unregister(operation)
    name, op = example.node.name, example.node.op
    assert str(caught.value) == f"{name}: the GPU cannot run {op}; run it on the reference, device='reference'"


def test_several_outputs() -> None:
    random = np.random.default_rng(0)
    weight = Tensor.from_array(DType.S4, random.integers(-8, 8, (5, 2, 1, 1)))
    nodes: list[Node] = [Conv2d(name="first", inputs=("in",), input_type=DType.S8, weight=weight)]
    factor = Tensor.from_array(DType.U32, random.integers(1, 900, 5))
    nodes += [
        Quantize(name="codes", inputs=("first",), input_type=DType.S32, output_type=DType.U4, factor=factor, shift=9),
        Scale(name="real", inputs=("first",), out_scale=Tensor.from_array(DType.F32, np.full(5, 3, np.float32))),
    ]
    graph = Graph([Input(name="in", dtype=DType.S8, shape=(2, 4, 3))], nodes, ["real", "codes", "first"])
    x = drawn(graph.inputs[0])
    expected = interpret(graph, x)
    with Engine(graph, device="cuda-emulated") as engine:
        found = engine.run(x, integers=True)
    assert list(found) == list(graph.outputs)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
