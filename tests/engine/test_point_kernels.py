"""Sums of rescaled values and PReLU: fused, on every instruction set, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given
from hypothesis import strategies as st

from nybble.graph import (
    Add,
    Conv2d,
    DType,
    Graph,
    Input,
    Node,
    PReLU,
    Quantize,
    ReLU,
    Scale,
    Table,
    Tensor,
)
from nybble.lower import fuse
from row_record import compared_kernel

BYTES = (DType.S8, DType.U8, DType.S4, DType.U4, DType.U7)


def requantized(name: str, source: str, given_type: DType, made: DType, factor: np.ndarray, shift: int) -> Quantize:
    kind = DType.U32 if factor.max() > DType.U16.maximum else DType.U16
    return Quantize(
        name=name,
        inputs=(source,),
        input_type=given_type,
        output_type=made,
        factor=Tensor.from_array(kind, factor),
        shift=shift,
    )


def below(name: str, source: str, given_type: DType, made: DType, factor: np.ndarray, shift: int, seed: int) -> PReLU:
    negative = np.random.default_rng(seed).integers(-int(factor.max()), int(factor.max()) + 1, factor.size)
    return PReLU(
        name=name,
        inputs=(source,),
        input_type=given_type,
        output_type=made,
        factor=Tensor.from_array(DType.U32 if factor.max() > DType.U16.maximum else DType.U16, factor),
        negative_factor=Tensor.from_array(DType.S32, negative),
        shift=shift,
    )


def drawn_factor(random: np.random.Generator, channels: int, shift: int, gain: float) -> np.ndarray:
    """Factors about ``gain`` times 1, in units of the shift."""
    most = max(1, min(int(gain * 2**shift), DType.U32.maximum // 2))
    return random.integers(max(1, most // 2), most + 1, channels)


def checked(graph: Graph, isa: str, threads: int = 1) -> None:
    random = np.random.default_rng(5)
    shape = graph.inputs[0].shape
    codes = random.integers(-128, 128, (3, *shape)).astype(np.int8)
    codes[1] = random.choice([-128, 127, 0, -1, 1], shape)
    assert_agrees(graph, codes, (threads,), [isa])


@given(data=st.data())
@pytest.mark.parametrize("isa", ISAS)
def test_prelu_behind_a_convolution(isa: str, data: st.DataObject) -> None:
    channels, shift = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 31))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    depthwise = data.draw(st.booleans())
    inputs = channels if depthwise else data.draw(st.integers(1, 9))
    size = data.draw(st.sampled_from([1, 3]))
    weight = random.integers(-128, 128, (channels, 1 if depthwise else inputs, size, size))
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=DType.S8,
        weight=Tensor.from_array(DType.S8, weight),
        groups=channels if depthwise else 1,
    )
    gain = data.draw(st.sampled_from([0.002, 0.02, 0.5, 3.0]))
    made = data.draw(st.sampled_from(BYTES))
    node = below("act", "conv", DType.S32, made, drawn_factor(random, channels, shift, gain), shift, 3)
    entry = Input(name="x", dtype=DType.S8, shape=(inputs, 4, 5))
    graph = Graph([entry], [conv, node], ["act"])
    assert [[each.name for each in step.nodes] for step in fuse(graph)] == [["conv", "act"]]
    checked(graph, isa)


@given(data=st.data())
@pytest.mark.parametrize("isa", ISAS)
def test_sums_of_rescaled_values(isa: str, data: st.DataObject) -> None:
    channels = data.draw(st.integers(1, 70))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    entry = Input(name="x", dtype=DType.S8, shape=(channels, 3, 4))
    nodes: list[Node] = []
    for name in ("a", "b"):
        made = data.draw(st.sampled_from(BYTES))
        first = requantized(f"{name}_codes", "x", DType.S8, made, random.integers(1, 300, channels), 7)
        shift = data.draw(st.integers(0, 31))
        most = min(data.draw(st.sampled_from([3, 255, 65_535, (1 << 22) - 1, (1 << 32) - 2])), 1 << (22 + shift))
        scale = requantized(f"{name}_sums", first.name, made, DType.S32, random.integers(1, most + 1, channels), shift)
        nodes += [first, scale]
    nodes.append(Add(name="sum", inputs=("a_sums", "b_sums")))
    last, ends = "sum", data.draw(st.sampled_from(["sum", "relu", "quantize", "relu+quantize", "prelu", "table"]))
    if "relu" in ends.split("+"):
        maximum = data.draw(st.sampled_from([None, 900]))
        nodes.append(ReLU(name="relu", inputs=(last,), input_type=DType.S32, maximum=maximum))
        last = "relu"
    shift = data.draw(st.integers(0, 24))
    factor = drawn_factor(random, channels, shift, data.draw(st.sampled_from([0.001, 0.1, 1.0])))
    if "quantize" in ends or ends == "table":
        nodes.append(requantized("out", last, DType.S32, DType.S8, factor, shift))
        last = "out"
    if ends == "prelu":
        nodes.append(below("out", last, DType.S32, data.draw(st.sampled_from(BYTES)), factor, shift, 1))
        last = "out"
    if ends == "table":
        results = Tensor.from_array(DType.S16, random.integers(0, 256, 256))
        nodes.append(Table(name="table", inputs=(last,), input_type=DType.S8, output_type=DType.U8, table=results))
        last = "table"
    graph = Graph([entry], nodes, [last])
    (step,) = (each for each in fuse(graph) if "sum" in [node.name for node in each.nodes])
    assert {"a_sums", "b_sums"} <= {node.name for node in step.nodes}, "both operands are rescaled on the way"
    checked(graph, isa)
    # Both are stored with padded channels, and the products fit 32 bits: what the vector kernels take.
    compared_kernel(isa, "point")


@given(data=st.data())
@pytest.mark.parametrize("isa", ISAS)
def test_codes_become_sums(isa: str, data: st.DataObject) -> None:
    channels, shift = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 31))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    made = data.draw(st.sampled_from(BYTES))
    factor = random.integers(1, data.draw(st.sampled_from([2, 1 << 12, (1 << 23) - 1])), channels)
    nodes: list[Node] = [
        requantized("codes", "x", DType.S8, made, random.integers(1, 300, channels), 7),
        requantized("sums", "codes", made, DType.S32, factor, shift),
    ]
    last = "sums"
    if data.draw(st.booleans()):
        scale = Tensor.from_array(DType.F32, random.uniform(0.01, 99, channels).astype(np.float32))
        nodes.append(Scale(name="real", inputs=("sums",), out_scale=scale))
        last = "real"
    graph = Graph([Input(name="x", dtype=DType.S8, shape=(channels, 2, 3))], nodes, [last])
    assert [step.output for step in fuse(graph)] == ["codes", last]
    checked(graph, isa)


def test_a_value_that_others_read_is_stored() -> None:
    channels = 3
    one = np.ones(channels, np.int64)
    nodes: list[Node] = [
        requantized("a", "x", DType.S8, DType.U8, one, 1),
        requantized("wide", "a", DType.U8, DType.S32, 5 * one, 1),
        requantized("b", "a", DType.U8, DType.S32, 3 * one, 0),
        Add(name="sum", inputs=("wide", "b")),
        Add(name="twice", inputs=("wide", "wide")),
        Add(name="all", inputs=("sum", "twice")),
    ]
    graph = Graph([Input(name="x", dtype=DType.S8, shape=(channels, 2, 3))], nodes, ["all"])
    assert "wide" in {step.output for step in fuse(graph)} and "b" not in {step.output for step in fuse(graph)}
    for isa in ISAS:
        checked(graph, isa, threads=2)


def test_operands_are_rescaled_where_they_are_added() -> None:
    one = np.ones(3, np.int64)
    nodes: list[Node] = [
        requantized("a", "x", DType.S8, DType.U8, one, 1),
        requantized("b", "a", DType.U8, DType.S32, 3 * one, 0),
        requantized("c", "a", DType.U8, DType.S32, 2 * one, 0),
        Add(name="sum", inputs=("b", "c")),
    ]
    graph = Graph([Input(name="x", dtype=DType.S8, shape=(3, 2, 3))], nodes, ["sum"])
    assert [step.output for step in fuse(graph)] == ["a", "sum"]
