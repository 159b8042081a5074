"""Conversion to eight bits: every layer of a converted network means what it meant, in finer steps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import assume, given

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    GraphError,
    Input,
    Linear,
    MaxPool2d,
    Mul,
    Node,
    Quantize,
    ReLU,
    Scale,
    Table,
    Tensor,
    read_graph,
    write_graph,
)
from nybble.graph.convert import TOLERANCE, Conversion, convert, has_four_bits, to_bits
from nybble.graph.types import SUMS, Array
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet
from strategies import batches, graphs

U4, S4, U7, S8 = DType.U4, DType.S4, DType.U7, DType.S8
UP = Fraction(127, 15)


def s32(*values: int) -> Tensor:
    return Tensor.from_array(DType.S32, np.array(values))


def linear(name: str, source: str, dtype: DType, weight: list[list[int]], bias: Tensor | None = None) -> Linear:
    tensor = Tensor.from_array(S4, np.array(weight))
    return Linear(name=name, inputs=(source,), input_type=dtype, weight=tensor, bias=bias)


def quantize(name: str, source: str, before: DType, after: DType, factors: list[int], shift: int) -> Quantize:
    factor = Tensor.from_array(DType.U32 if max(factors) > 65535 else DType.U16, np.array(factors))
    return Quantize(name=name, inputs=(source,), input_type=before, output_type=after, factor=factor, shift=shift)


@pytest.fixture
def small() -> Graph:
    """A ResNet small enough for any test, with class names."""
    drawn = bottleneck_resnet(blocks=(2, 1, 1, 1), width=8, image=32, classes=10)
    names = [f"thing {index}" for index in range(10)]
    return Graph(drawn.inputs, drawn.nodes, drawn.outputs, preprocessing=drawn.preprocessing, class_names=names)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Graph, Conversion, dict[str, Array]]:
    """A drawn four-bit graph, its conversion, and inputs."""
    graph = draw(graphs())
    assume(has_four_bits(graph))
    try:
        conversion = convert(graph, 8)
    except GraphError as error:
        # Refused for a sum that passes 32 bits, or a scale that float32 cannot hold.
        assert "at 8 bits" in str(error)
        assume(False)
        raise
    count = draw(st.integers(1, 2))
    images = {entry.name: np.repeat(draw(batches(entry, 1)), count, axis=0) for entry in graph.inputs}
    return graph, conversion, images


@given(case=cases())
def test_each_layer_means_what_it_meant(case: tuple[Graph, Conversion, dict[str, Array]]) -> None:
    """By the exact real value of everything in the new network's units, layer by layer."""
    assert_means_the_same(*case)


def assert_means_the_same(graph: Graph, conversion: Conversion, images: Array | dict[str, Array]) -> None:
    units = {name: float(unit) for name, unit in conversion.units.items()}
    assert units.keys() == conversion.graph.values.keys()
    values = interpret(conversion.graph, images, keep=None)
    real = {name: value.astype(np.float64) / units[name] for name, value in values.items()}
    old = {node.name: node for node in graph}
    for node in conversion.graph:
        sources = [real[name] for name in node.inputs]
        if node.name not in old:
            # Brought to another unit: the real value stays.
            error = 0.5 / units[node.name] + conversion.errors[node.name] * np.abs(sources[0]) + 1e-6
            assert np.all(np.abs(real[node.name] - sources[0]) <= error)
            continue
        expected, error = meaning(old[node.name], node, conversion, sources)
        if expected is not None:
            assert np.all(np.abs(real[node.name] - expected) <= error * (1 + 1e-9) + 1e-6), node.name


def meaning(old: Node, new: Node, conversion: Conversion, sources: list[Array]) -> tuple[Array | None, Array | float]:
    """The old layer's result in real numbers, without rounding, and how far the new one may lie from it."""
    unit = float(conversion.units[new.name])
    assert type(old) is type(new)
    match old, new:
        case (Conv2d(), Conv2d()) | (Linear(), Linear()):
            assert np.array_equal(new.weight.numpy(), old.weight.numpy())
            assert new.weight.dtype is S8
            assert (new.bias is None) == (old.bias is None)
            if old.bias is not None and new.bias is not None:
                assert np.all(np.abs(new.bias.numpy() - old.bias.numpy() * unit) <= 0.5 + 1e-6)
            return None, 0
        case Quantize(), Quantize():
            scale = old.factor.numpy().astype(np.float64) / 2.0**old.shift
            plain = sources[0] * scale.reshape(-1, *(1,) * (sources[0].ndim - 2))
            error = conversion.errors.get(new.name, 0.0)
            if old.output_type in SUMS:
                low = 0 if old.output_type is DType.U31 else -(2**31)
                return np.maximum(plain, low), 0.5 / unit + error * np.abs(plain)
            low, high = old.output_type.minimum, old.output_type.maximum
            if old.output_type is S4:
                low = -128 / unit
            return np.clip(plain, low, high), 0.5 / unit + error * (high + 1)
        case ReLU(), ReLU():
            return np.clip(sources[0], 0, old.maximum), 0.5 / unit
        case Add(), Add():
            return sources[0] + sources[1], 0.0
        case Mul(), Mul():
            return sources[0] * sources[1], 0.0
        case Table(), Table():
            codes = np.arange(old.input_type.minimum, old.input_type.maximum + 1)
            plain = np.interp(sources[0], codes, old.table.numpy().astype(np.float64))
            low = -128 / unit if old.output_type is S4 else old.output_type.minimum
            return np.maximum(plain, low), 0.5 / unit
        case Concat(), Concat():
            return np.concatenate(sources, axis=1), 0.0
        case Scale(), Scale():
            shape = (-1, *(1,) * (sources[0].ndim - 2))
            plain = sources[0] / old.out_scale.numpy().astype(np.float64).reshape(shape)
            return plain, np.abs(plain) * 1e-6
        case (MaxPool2d(), MaxPool2d()) | (AvgPool2d(), AvgPool2d()):
            return None, 0
    raise AssertionError(old.op)


@given(case=cases())
def test_what_is_kept_and_what_is_not(case: tuple[Graph, Conversion, dict[str, Array]]) -> None:
    graph, conversion, _ = case
    new = conversion.graph
    assert (new.inputs, new.outputs) == (graph.inputs, graph.outputs)
    assert [node.name for node in new if node.name in graph.values] == [node.name for node in graph]
    assert not has_four_bits(new)
    assert to_bits(new, 8) is new
    for node in graph:
        assert new.values[node.name].shape == graph.values[node.name].shape
        before, after = graph.values[node.name].dtype, new.values[node.name].dtype
        if isinstance(node, Quantize | Table):
            assert after is {U4: U7, S4: S8}.get(before, before)


@given(case=cases())
def test_it_is_written_and_read_back(
    case: tuple[Graph, Conversion, dict[str, Array]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("converted")
    write_graph(case[1].graph, folder)
    assert_equal(read_graph(folder), case[1].graph)


def test_a_small_network(small: Graph, tmp_path: Path) -> None:
    """What a ResNet's layers become, that its logits are alike, and that containers still express it."""
    conversion = convert(small, 8)
    assert (conversion.graph.preprocessing, conversion.graph.class_names) == (small.preprocessing, small.class_names)
    assert max(conversion.errors.values()) <= TOLERANCE
    assert conversion.graph["conv1"].weight is small["conv1"].weight  # type: ignore[attr-defined]
    assert conversion.units["scale"] == conversion.units["layer1_0_downsample_1"] == 1
    assert conversion.units["layer1_0_downsample_2"] == conversion.units["layer1_1_add"] == UP
    images = np.random.default_rng(5).integers(-127, 128, (6, 3, 32, 32))
    before, after = (interpret(graph, images)["scale"] for graph in (small, conversion.graph))
    # Drawn weights turn the rounding to 4 bits into noise that learned ones do not.
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.85
    assert_means_the_same(small, conversion, images)
    write_graph(conversion.graph, tmp_path)
    assert (tmp_path / "model" / "model").read_text().split()[0] == "ResNetQuantized"
    assert_equal(read_graph(tmp_path), conversion.graph)


def test_sums_of_unlike_units_are_brought_to_one() -> None:
    """One linear layer reads the input, whose unit stays, the other a four-bit activation."""
    nodes = [
        quantize("q", "x", U7, U4, [1, 2], 3),
        linear("a", "x", U7, [[1, 2], [3, -4]], s32(5, -6)),
        linear("b", "q", U4, [[1, 2], [3, -4]], s32(5, -6)),
        Add(name="sum", inputs=("a", "b")),
        ReLU(name="cut", inputs=("a",), maximum=700),
        quantize("y", "sum", DType.S32, S4, [1000, 2000], 16),
    ]
    graph = Graph([Input(name="x", dtype=U7, shape=(2,))], nodes, ["y", "a", "cut"])
    conversion = convert(graph, 8)
    assert [node.name for node in conversion.graph] == ["q", "a", "a_rescaled", "b", "sum", "cut", "y"]
    assert conversion.graph["sum"].inputs == ("a_rescaled", "b")
    assert conversion.graph["a"].bias is graph["a"].bias  # type: ignore[attr-defined]
    assert conversion.graph["b"].bias.numpy().tolist() == [42, -51]  # type: ignore[attr-defined]
    assert conversion.graph["cut"].maximum == round(700 * UP)  # type: ignore[attr-defined]
    wanted = {"x": 1, "q": UP, "a": 1, "a_rescaled": UP, "b": UP, "sum": UP, "cut": UP, "y": Fraction(127, 7)}
    assert conversion.units == wanted


def test_a_sum_without_room_keeps_the_old_unit() -> None:
    """The shortcut is near the limit, so the convolution comes to its unit, not the other way round."""
    nodes = [
        quantize("q", "x", U7, U4, [1], 3),
        linear("conv", "q", U4, [[7]]),
        quantize("big", "x", U7, DType.S32, [1 << 23], 0),
        Add(name="sum", inputs=("conv", "big")),
    ]
    graph = Graph([Input(name="x", dtype=U7, shape=(1,))], nodes, ["sum"])
    conversion = convert(graph, 8)
    assert (conversion.units["sum"], conversion.units["big"], conversion.units["conv"]) == (1, 1, UP)
    image = np.array([[100]])
    before, after = (int(interpret(each, image)["sum"][0, 0]) for each in (graph, conversion.graph))
    # Without the rounding to 4 bits: 12.5 * 7 instead of 13 * 7.
    assert before == 100 * (1 << 23) + 91
    assert after == 100 * (1 << 23) + 88


def test_a_convolution_without_room_is_refused() -> None:
    nodes = [
        quantize("q", "x", U7, U4, [1], 3),
        linear("conv", "q", U4, [[7]], s32(1 << 29)),
    ]
    graph = Graph([Input(name="x", dtype=U7, shape=(1,))], nodes, ["conv"])
    with pytest.raises(GraphError, match=r"conv: at 8 bits, .*32-bit limit"):
        to_bits(graph, 8)


def test_factors_take_16_bits_where_those_are_precise_enough() -> None:
    cases = {
        # 40000 * 127/15 / 2**16 * 2**13 is the last below 2**16.
        (40000, 39000): (DType.U16, 13),
        # The smallest would lose a part in seventeen in 16 bits. The products stay within 32.
        (40000, 1): (DType.U32, 21),
    }
    for factors, (dtype, shift) in cases.items():
        nodes = [
            quantize("q", "x", S8, DType.U31, list(factors), 16),
            quantize("y", "z", U4, DType.S32, [1, 1], 0),
            Add(name="sum", inputs=("q", "y")),
        ]
        nodes.insert(0, quantize("z", "x", S8, U4, [1, 1], 0))
        nodes.insert(1, linear("conv", "z", U4, [[1, 0], [0, 1]]))
        nodes.append(Add(name="total", inputs=("sum", "conv")))
        graph = Graph([Input(name="x", dtype=S8, shape=(2,))], nodes, ["total"])
        found = convert(graph, 8).graph["q"]
        assert isinstance(found, Quantize)
        assert (found.factor.dtype, found.shift) == (dtype, shift)


def test_four_bits_of_the_signed_kind() -> None:
    nodes = [
        quantize("q", "x", S8, S4, [1], 4),
        linear("conv", "q", S4, [[-3]], s32(7)),
        Scale(name="y", inputs=("conv",), out_scale=Tensor.from_array(DType.F32, np.array([2.0], np.float32))),
    ]
    graph = Graph([Input(name="x", dtype=S8, shape=(1,))], nodes, ["y"])
    new = to_bits(graph, 8)
    logits = interpret(new, np.array([[112], [-112], [-128]]))["y"][:, 0]
    # The most negative value of s4 has no place in 127 steps of 1/7.
    assert np.allclose(logits, [(-21 + 7) / 2, (21 + 7) / 2, (128 * 7 / 127 * 3 + 7) / 2], rtol=1e-6, atol=0.02)


def test_bits_that_make_no_sense(small: Graph) -> None:
    with pytest.raises(GraphError, match="has 4 bits already"):
        to_bits(small, 4)
    with pytest.raises(GraphError, match="takes training"):
        to_bits(to_bits(small, 8), 4)
    with pytest.raises(ValueError, match="not to 5"):
        to_bits(small, 5)


@pytest.mark.data
def test_the_published_network(shared_data: Path, tmp_path: Path) -> None:
    graph = read_graph(shared_data / "nvidia-resnet50-int4")
    conversion = convert(graph, 8)
    assert max(conversion.errors.values()) <= TOLERANCE
    # Only where the unit of the input changes and that of the output does not, or the other way round.
    projections = [f"layer{stage}_0_downsample_{part}" for stage in (1, 2, 3, 4) for part in (1, 2)]
    assert conversion.errors.keys() == {"quantize1", "layer4_2_quantize3", *projections}
    assert len(conversion.graph) == len(graph)
    for node in conversion.graph:
        if isinstance(node, Quantize) and node.output_type not in SUMS:
            # An engine can requantize in float32, exactly.
            assert (node.output_type.magnitude + 1) << node.shift <= 1 << 24
    write_graph(conversion.graph, tmp_path)
    assert_equal(read_graph(tmp_path), conversion.graph)
