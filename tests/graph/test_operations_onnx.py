"""Every registered operation, by its examples, in every form of ONNX model that it has, and back by import.

A new operation is tested by being registered.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nybble.graph import DType, Graph, GraphError, Input, Node, Quantize, Scale, Tensor
from nybble.graph.ops import Operation, RealReshape, operations, register, unregister
from nybble.graph.types import SUMS, Array
from nybble.reference import interpret

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from test_onnx_exact import LEVELS, run

from nybble.graph.onnx import OnnxExportError, from_onnx, to_onnx
from nybble.graph.onnx.float_form import units

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_absolute
import outside_clamp
import outside_half

IMAGES = 4
OUTSIDE = (outside_absolute.operation, outside_clamp.operation, outside_half.operation)


def having(form: str) -> pytest.MarkDecorator:
    """The operations that have a form, of their own or by an expansion."""
    entries = [entry for entry in (*operations().values(), *OUTSIDE) if is_written(entry, form)]
    return pytest.mark.parametrize("operation", entries, ids=[entry.kind for entry in entries])


def is_written(operation: Operation[Any], form: str) -> bool:
    return operation.has_form(form) or type(operation).expanded is not Operation.expanded


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    for operation in OUTSIDE:
        register(operation)
    yield
    for operation in OUTSIDE:
        unregister(operation)


def networks(operation: Operation[Any]) -> Iterator[Graph]:
    """Each example as a network of its own: sums that it reads are requantized activations."""
    random = np.random.default_rng(7)
    for example in operation.examples(random):
        inputs: list[Input] = []
        nodes: list[Node] = []
        for name, source in zip(example.node.inputs, example.inputs, strict=True):
            if source.dtype.is_float:
                is_image = len(source.shape) in (1, 3)
                shape = source.shape if is_image else (math.prod(source.shape),)
                inputs.append(Input(name=f"{name}_codes", dtype=DType.S8, shape=shape))
                nodes += scaled(name if is_image else f"{name}_flat", f"{name}_codes", shape[0], random)
                if not is_image:
                    nodes.append(RealReshape(name=name, inputs=(f"{name}_flat",), shape=source.shape))
                continue
            if source.dtype not in SUMS:
                inputs.append(Input(name=name, dtype=source.dtype, shape=source.shape))
                continue
            # Sums up to the magnitude of the example, of other steps in each channel.
            reads = DType.S8 if source.dtype is DType.S32 else DType.U8
            most = max(1, source.magnitude // reads.magnitude)
            factors = random.integers(-(-most // 2), most, source.shape[0], endpoint=True)
            inputs.append(Input(name=f"{name}_codes", dtype=reads, shape=source.shape))
            nodes.append(
                Quantize(
                    name=name,
                    inputs=(f"{name}_codes",),
                    input_type=reads,
                    output_type=source.dtype,
                    factor=Tensor.from_array(DType.U32, factors),
                    shift=0,
                )
            )
        try:
            yield Graph(inputs, [*nodes, example.node], [example.node.name])
        except GraphError as error:
            # Drawn constants may pass what sums can be.
            assert "beyond the 32-bit limit" in error.message


def scaled(name: str, source: str, channels: int, random: np.random.Generator) -> list[Node]:
    """Codes as real numbers."""
    ones = Tensor.from_array(DType.U16, np.ones(channels, np.uint16))
    scales = Tensor.from_array(DType.F32, random.uniform(8, 64, channels).astype(np.float32))
    return [
        Quantize(
            name=f"{name}_sums", inputs=(source,), input_type=DType.S8, output_type=DType.S32, factor=ones, shift=0
        ),
        Scale(name=name, inputs=(f"{name}_sums",), out_scale=scales),
    ]


def codes(graph: Graph) -> dict[str, Array]:
    """Drawn inputs, with all ends of their types in them."""
    random = np.random.default_rng(8)
    found = {}
    for entry in graph.inputs:
        low, high = entry.dtype.minimum, entry.dtype.maximum
        values = random.integers(low, high, (IMAGES, *entry.shape), endpoint=True)
        values[1] = np.where(random.random(entry.shape) < 0.5, low, high)
        found[entry.name] = values.astype(entry.dtype.storage)
    return found


def exported(operation: Operation[Any], form: Any) -> Iterator[tuple[Graph, Any]]:
    """Networks and their models; of some examples a form may not be able to say all, which it then says."""
    written = refused = 0
    for graph in networks(operation):
        try:
            model = to_onnx(graph, form).model
        except OnnxExportError as error:
            assert error.node == graph.outputs[0]
            refused += 1
            continue
        written += 1
        yield graph, model
    assert written > refused


@having("exact")
def test_the_exact_form_is_exact(operation: Operation[Any]) -> None:
    for graph, model in exported(operation, "exact"):
        inputs = codes(graph)
        (expected,) = interpret(graph, inputs).values()
        for level in LEVELS:
            (found,) = run(model, inputs, level)
            if operation.on_host:
                # Each runtime has an exponential function of its own.
                np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
                continue
            np.testing.assert_array_equal(found, expected.astype(found.dtype))


@having("qdq")
def test_the_qdq_form_is_imported_as_the_same(operation: Operation[Any]) -> None:
    for graph, model in exported(operation, "qdq"):
        again = from_onnx(model).graph
        assert [(entry.name, entry.dtype, entry.shape) for entry in again.inputs] == [
            (entry.name, entry.dtype, entry.shape) for entry in graph.inputs
        ]
        inputs = codes(graph)
        (expected,) = interpret(graph, inputs).values()
        (found,) = interpret(again, inputs).values()
        assert found.dtype == expected.dtype
        if operation.on_host:
            # Its scales come back rounded.
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            assert [node.name for node in again] == [node.name for node in graph]
        else:
            np.testing.assert_array_equal(found, expected)
        # What was an own form comes back as the operation itself.
        if operation.has_form("qdq"):
            assert again.outputs == graph.outputs
            assert operation.kind in {node.op for node in again}


@having("qdq")
def test_the_qdq_form_runs(operation: Operation[Any]) -> None:
    for graph, model in exported(operation, "qdq"):
        inputs = codes(graph)
        (expected,) = interpret(graph, inputs).values()
        for level in LEVELS:
            (found,) = run(model, {name: values.astype(np.float32) for name, values in inputs.items()}, level)
            if operation.on_host:
                np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
            elif graph.values[graph.outputs[0]].dtype in SUMS:
                # The form carries sums as float32.
                np.testing.assert_allclose(found, expected, rtol=2.0**-23)
            else:
                np.testing.assert_array_equal(found, expected)


def test_a_requantization_by_sign_is_written_in_both_precisions() -> None:
    """ONNX Runtime has PRelu in float32 only: factors that need float64 are written with other operators."""
    written = {node.op_type for _, model in exported(operations()["PReLU"], "qdq") for node in model.graph.node}
    assert {"PRelu", "Where"} <= written


@having("float")
def test_the_float_form_is_near(operation: Operation[Any]) -> None:
    """Within the one rounding that it leaves out."""
    for graph in networks(operation):
        if len(graph.inputs) != 1:
            continue
        try:
            model = to_onnx(graph, "float").model
        except OnnxExportError as error:
            assert error.node == graph.outputs[0]
            continue
        inputs = codes(graph)
        ((name, expected),) = interpret(graph, inputs).items()
        (found,) = run(model, {entry: values.astype(np.float32) for entry, values in inputs.items()}, LEVELS[0])
        steps = found / units(graph)[name].reshape(-1, *(1,) * (found.ndim - 2))
        near = np.abs(expected).max() * 2.0**-16
        most = near if expected.dtype.kind == "f" else 1 + near
        assert np.abs(steps - expected).max() <= most


def test_what_has_no_form_is_refused_in_one_line() -> None:
    class Formless(outside_clamp.Clamp):
        pass

    class FormlessOperation(outside_clamp.ClampOperation):
        node = Formless
        write_exact = Operation.write_exact
        write_real = Operation.write_real

    operation = FormlessOperation()
    register(operation)
    try:
        codes_ = Input(name="x", dtype=DType.S8, shape=(2, 1, 1))
        ones = Tensor.from_array(DType.U16, np.ones(2, np.uint16))
        lifted = Quantize(name="sum", inputs=("x",), input_type=DType.S8, output_type=DType.S32, factor=ones, shift=0)
        clamp = Formless(name="odd", inputs=("sum",), low=-1, high=1)
        graph = Graph([codes_], [lifted, clamp], ["odd"])
        assert not any(operation.has_form(form) for form in ("exact", "qdq", "float"))
        for form, what in (("exact", "exact ONNX form"), ("qdq", "ONNX form"), ("float", "ONNX form")):
            with pytest.raises(OnnxExportError, match=rf"^odd: no {what} is defined for Formless$"):
                to_onnx(graph, form)
    finally:
        unregister(operation)
