"""Table and Mul: meaning, bounds, layer files, the version of the directory, and conversion to eight bits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import given

from nybble.graph import (
    DType,
    Graph,
    GraphError,
    Input,
    ModelFormatError,
    Mul,
    Node,
    Quantize,
    ReLU,
    Table,
    Tensor,
    ValueType,
    read_graph,
    write_graph,
)
from nybble.graph.convert import convert, has_four_bits, to_bits
from nybble.graph.infer import infer
from nybble.graph.ops.table import table_entries
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import compute, interpret
from nybble.synthetic import bottleneck_resnet
from strategies import STYLES, values_of

SHAPES = st.sampled_from([(3,), (1, 1, 1), (2, 3, 4), (5, 1, 7)])
TYPES = st.sampled_from(ACTIVATIONS)


def table(
    entries: object, before: DType = DType.S8, after: DType = DType.S8, source: str = "x", function: str = ""
) -> Table:
    tensor = Tensor.from_array(DType.S16, np.array(entries, np.int64))
    return Table(name="table", inputs=(source,), input_type=before, output_type=after, table=tensor, function=function)


def full(dtype: DType, *shape: int) -> ValueType:
    return ValueType(dtype, shape, dtype.magnitude)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    before, after = draw(TYPES), draw(TYPES)
    style, seed = draw(st.sampled_from(STYLES)), draw(st.integers(0, 2**32 - 1))
    function = draw(st.sampled_from(["", "SiLU", "x * (x > 3)"]))
    return table(values_of(after, (table_entries(before),), style, seed), before, after, function=function)


@st.composite
def value(draw: st.DrawFn, dtype: DType, shape: tuple[int, ...]) -> Array:
    return values_of(dtype, (2, *shape), draw(st.sampled_from(STYLES)), draw(st.integers(0, 2**32 - 1)))


# ---------------------------------------------------------------------------------------------------------------------
# Meaning and bounds.


@given(node=tables(), shape=SHAPES, data=st.data())
def test_a_table_gives_the_entry_of_each_code(node: Table, shape: tuple[int, ...], data: st.DataObject) -> None:
    codes = data.draw(value(node.input_type, shape))
    limit = data.draw(st.integers(0, node.input_type.magnitude))
    codes = np.clip(codes, -limit if node.input_type.is_signed else 0, min(limit, node.input_type.maximum))
    source = ValueType(node.input_type, shape, limit)
    found = compute(node, [source], [codes.astype(node.input_type.storage)])
    entries = dict(
        zip(range(node.input_type.minimum, node.input_type.maximum + 1), node.table.numpy().tolist(), strict=True)
    )
    assert found.reshape(-1).tolist() == [entries[code] for code in codes.reshape(-1).tolist()]
    result = infer(node, [source])
    assert (result.dtype, result.shape) == (node.output_type, shape)
    assert result.magnitude == max(abs(entry) for code, entry in entries.items() if abs(code) <= limit)


@given(left=TYPES, right=TYPES, shape=SHAPES, gate=st.booleans(), data=st.data())
def test_a_product_is_exact(left: DType, right: DType, shape: tuple[int, ...], gate: bool, data: st.DataObject) -> None:
    node = Mul(name="mul", inputs=("x", "y"))
    other = (shape[0], 1, 1) if gate and len(shape) == 3 else shape
    x, y = data.draw(value(left, shape)), data.draw(value(right, other))
    types = [full(left, *shape), full(right, *other)]
    found = compute(node, types, [x, y])
    assert found.dtype == np.int32
    expected = [
        a * b for a, b in zip(x.reshape(-1).tolist(), np.broadcast_to(y, x.shape).reshape(-1).tolist(), strict=True)
    ]
    assert found.reshape(-1).tolist() == expected
    result = infer(node, types)
    assert result == ValueType(DType.S32, shape, left.magnitude * right.magnitude)
    assert np.abs(found).max() <= result.magnitude


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((3, 4, 5), (3, 5, 4)),
        ((3, 4, 5), (1, 4, 5)),
        ((3, 4, 5), (2, 1, 1)),
        ((3, 1, 1), (3, 4, 5)),
        ((3, 4, 5), (3,)),
        ((3, 1, 1), (3,)),
        ((3,), (3, 1, 1)),
        ((3,), (4,)),
        ((3, 4, 5), (3, 4, 1)),
    ],
)
def test_shapes_that_do_not_multiply(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    node = Mul(name="mul", inputs=("x", "y"))
    with pytest.raises(GraphError, match=r"^mul: cannot multiply u4\[.*\] by s8\[.*\]: ") as caught:
        infer(node, [full(DType.U4, *shape), full(DType.S8, *other)])
    assert caught.value.field == "inputs"


@pytest.mark.parametrize("position", [0, 1])
def test_sums_are_not_multiplied(position: int) -> None:
    types = [full(DType.U4, 3, 2, 2), full(DType.S8, 3, 2, 2)]
    types[position] = ValueType(DType.S32, (3, 2, 2), 9)
    with pytest.raises(GraphError, match=r"^mul: cannot multiply s32, only u4, u7, u8, s4, s8$"):
        infer(Mul(name="mul", inputs=("x", "y")), types)


@pytest.mark.parametrize(
    ("node", "field", "why"),
    [
        (table([0] * 255), "table", r"table has shape 255, but s8 has 256 codes$"),
        (table([[0] * 16] * 16), "table", r"table has shape 16x16, but s8 has 256 codes$"),
        (table([0] * 255 + [128]), "table", r"table has entries 0\.\.128, beyond s8$"),
        (table([-1] + [0] * 255, after=DType.U8), "table", r"table has entries -1\.\.0, beyond u8$"),
        (table([0] * 256, after=DType.S32), "compute_mode", r"a table cannot give s32$"),
        (table([0] * 256, after=DType.S16), "compute_mode", r"a table cannot give s16$"),
        (table([0] * 256, before=DType.S32), "compute_mode", r"Table cannot read s32$"),
        (table([0] * 256, before=DType.U8), "compute_mode", r"is declared to read u8, but x is s8$"),
        (table([0] * 256, function=" SiLU"), "function", r"function is not 1 to 64 printable"),
        (table([0] * 256, function="x" * 65), "function", r"function is not 1 to 64 printable"),
        (table([0] * 256, function="a\nb"), "function", r"function is not 1 to 64 printable"),
        (table([0] * 256, function="caf\u00e9"), "function", r"function is not 1 to 64 printable"),
        (
            Table(
                name="table",
                inputs=("x",),
                input_type=DType.S8,
                output_type=DType.S8,
                table=Tensor.from_array(DType.S8, np.zeros(256, np.int8)),
            ),
            "table",
            r"table is s8, not s16$",
        ),
    ],
)
def test_tables_that_are_none(node: Table, field: str, why: str) -> None:
    with pytest.raises(GraphError, match=f"^table: {why}") as caught:
        infer(node, [full(DType.S8, 3, 2, 2)])
    assert caught.value.field == field


# ---------------------------------------------------------------------------------------------------------------------
# The model directory.


def gated() -> Graph:
    """A network of a table, a gate and a requantization."""
    nodes: list[Node] = [
        table(np.clip(np.arange(-128, 128), -1, 7), DType.S8, DType.S4, function="SiLU"),
        Mul(name="mul", inputs=("table", "gate")),
        quantize("quantize", "mul", DType.S32, DType.S4, 16, [700, 900]),
    ]
    inputs = [Input(name="x", dtype=DType.S8, shape=(2, 3, 3)), Input(name="gate", dtype=DType.U7, shape=(2, 1, 1))]
    return Graph(inputs, nodes, ["quantize"])


def quantize(name: str, source: str, before: DType, after: DType, shift: int, factors: list[int]) -> Quantize:
    factor = Tensor.from_array(DType.U16, np.array(factors))
    return Quantize(name=name, inputs=(source,), input_type=before, output_type=after, factor=factor, shift=shift)


def version_of(path: Path) -> bytes | None:
    file = path / "model" / "format_version"
    return file.read_bytes() if file.exists() else None


def test_a_directory_with_them_is_of_version_2(tmp_path: Path) -> None:
    graph = gated()
    write_graph(graph, tmp_path)
    assert version_of(tmp_path) == b"FormatVersion\r\nversion=2\r\n"
    model = tmp_path / "model"
    assert (model / "table").read_bytes() == (
        b"Table\r\ncompute_mode=s8s4\r\nfunction=SiLU\r\ntable=s16,1:256\r\n!model/npdata/table.table\r\n"
    )
    assert (model / "mul").read_bytes() == b"Mul\r\ncompute_mode=s4u7s32\r\n"
    assert_equal(read_graph(tmp_path), graph)


def test_each_of_them_alone_makes_version_2(tmp_path: Path) -> None:
    graph = gated()
    x = Input(name="x", dtype=DType.S8, shape=(2, 3, 3))
    named = Input(name="table", dtype=DType.S4, shape=(2, 3, 3))
    write_graph(Graph([x], graph.nodes[:1], ["table"]), tmp_path / "table")
    write_graph(Graph([named, graph.inputs[1]], graph.nodes[1:2], ["mul"]), tmp_path / "mul")
    plain = quantize("q", "x", DType.S8, DType.S4, 3, [1, 2])
    write_graph(Graph([x], [plain], ["q"]), tmp_path / "neither")
    versions = [version_of(tmp_path / name) for name in ("table", "mul", "neither")]
    assert versions == [b"FormatVersion\r\nversion=%d\r\n" % version for version in (2, 2, 1)]


def test_a_resnet_with_a_table_keeps_its_containers(tmp_path: Path) -> None:
    plain = bottleneck_resnet(blocks=(1, 1, 1, 1), width=2, image=32, classes=3)
    last = "layer1_0_quantize3"
    nodes: list[Node] = []
    for node in plain:
        inputs = tuple("layer1_1" if name == last else name for name in node.inputs)
        nodes.append(node if inputs == node.inputs else replace(node, inputs=inputs))
        if node.name == last:
            entries = np.arange(16)[::-1]
            nodes.append(replace(table(entries, DType.U4, DType.U4, last), name="layer1_1"))
    graph = Graph(plain.inputs, nodes, plain.outputs, preprocessing=plain.preprocessing)
    write_graph(graph, tmp_path / "table")
    assert (tmp_path / "table" / "model" / "model").read_bytes().startswith(b"ResNetQuantized\r\n")
    assert version_of(tmp_path / "table") == b"FormatVersion\r\nversion=2\r\n"
    assert_equal(read_graph(tmp_path / "table"), graph)
    write_graph(plain, tmp_path / "plain")
    assert version_of(tmp_path / "plain") is None


# file, old text, new text, the place that is named, what is said
EDITS = [
    ("table", "compute_mode=s8s4", "compute_mode=s8s8s4", "table:2", "compute_mode of Table names 2 types"),
    ("table", "compute_mode=s8s4", "compute_mode=s8s32", "table:2", "a table cannot give s32"),
    ("table", "compute_mode=s8s4", "compute_mode=s32s4", "table:2", "Table cannot read s32"),
    ("table", "compute_mode=s8s4", "compute_mode=u8s4", "table:2", "is declared to read u8, but x is s8"),
    ("table", "compute_mode=s8s4", "compute_mode=s8u4", "table:4", r"table has entries -1\.\.7, beyond u4"),
    ("table", "function=SiLU", "function=", "table:3", "function must name something, or be left out"),
    ("table", "function=SiLU", "function=SiLU ", "table:3", "function is not 1 to 64 printable ASCII"),
    ("table", "function=SiLU", "function=" + "x" * 65, "table:3", "function is not 1 to 64 printable ASCII"),
    ("table", "function=SiLU", "functions=SiLU", "table:3", "unknown key 'functions' for Table"),
    ("table", "table=s16,1:256", "table=s8,1:256", "table:4", "table must be s16, found s8"),
    ("table", "table=s16,1:256", "table=s16,2:16 16", "table:4", "table must have 1 dimensions, found 2"),
    ("table", "table=s16,1:256", "table=s16,1:255", "table:5", "has 512 bytes, but s16 of shape 255 takes 510"),
    ("table", "table=s16,1:256\n!model/npdata/table.table\n", "", "table:1", "Table lacks the key table"),
    ("table", "!model/npdata/table.table\n", "", "table:4", "must be followed by a line !path"),
    ("mul", "s4u7s32", "s4u7", "mul:2", "compute_mode of Mul names 3 types"),
    ("mul", "s4u7s32", "s4u7u31", "mul:2", "must be the output of Mul: s32"),
    ("mul", "s4u7s32", "s8u7s32", "mul:2", "is declared to read s8, but table is s4"),
    ("mul", "s4u7s32", "s4u8s32", "mul:2", "is declared to read u8, but gate is u7"),
    ("model", "node.mul=2:table gate", "node.mul=2:gate table", "model:5", "cannot multiply u7.* by s4"),
    ("model", "node.mul=2:table gate", "node.mul=1:table", "model:5", r"Mul reads 2 values, not 1"),
    ("model", "node.mul=2:table gate", "node.mul=3:table gate x", "model:5", r"Mul reads 2 values, not 3"),
    ("model", "node.table=1:x", "node.table=2:x gate", "model:4", r"Table reads 1 value, not 2"),
    ("model", "gate=u7,3:2 1 1", "gate=u7,1:2", "model:5", r"cannot multiply s4\[2x3x3\] by u7\[2\]"),
    ("model", "gate=u7,3:2 1 1", "gate=u7,3:3 1 1", "model:5", r"cannot multiply s4\[2x3x3\] by u7\[3x1x1\]"),
    ("format_version", "version=2", "version=4", "format_version:2", "version 4 is newer than 3, the newest"),
]


@pytest.mark.parametrize(("name", "old", "new", "place", "message"), EDITS)
def test_edited(name: str, old: str, new: str, place: str, message: str, tmp_path: Path) -> None:
    write_graph(gated(), tmp_path)
    path = tmp_path / "model" / name
    text = path.read_bytes().decode().replace("\r\n", "\n")
    assert text.count(old) == 1
    path.write_bytes(text.replace(old, new).encode())
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_graph(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'model' / place}: ")


@pytest.mark.parametrize(
    ("count", "entry", "message"),
    [
        (255, 0, "has 510 bytes, but s16 of shape 256 takes 512"),
        (256, 8, r"table has entries 0\.\.8, beyond s4"),
        (256, -9, r"table has entries -9\.\.0, beyond s4"),
        (256, -32768, r"table has entries -32768\.\.0, beyond s4"),
    ],
)
def test_data_that_is_no_table(count: int, entry: int, message: str, tmp_path: Path) -> None:
    write_graph(gated(), tmp_path)
    entries = np.zeros(count, "<i2")
    entries[7] = entry
    (tmp_path / "model" / "npdata" / "table.table").write_bytes(entries.tobytes())
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_graph(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'model' / 'table'}:{5 if count != 256 else 4}: ")


def test_version_2_without_them_is_read(tmp_path: Path) -> None:
    x = Input(name="x", dtype=DType.S8, shape=(2, 3, 3))
    graph = Graph([x], [quantize("q", "x", DType.S8, DType.S4, 3, [1, 2])], ["q"])
    write_graph(graph, tmp_path)
    (tmp_path / "model" / "format_version").write_bytes(b"FormatVersion\nversion=2\n")
    assert_equal(read_graph(tmp_path), graph)


# ---------------------------------------------------------------------------------------------------------------------
# Conversion to eight bits.


def network(node: Table) -> Graph:
    """The table behind a Quantize of its own input type, so that the conversion may widen that."""
    before = quantize("before", "image", DType.S8, node.input_type, 0, [1])
    after = replace(node, inputs=("before",))
    return Graph([Input(name="image", dtype=DType.S8, shape=(1, 1, 256))], [before, after], [node.name])


WIDER = {DType.U4: DType.U7, DType.S4: DType.S8}


@given(node=tables())
def test_a_converted_table_is_the_old_one_in_finer_steps(node: Table) -> None:
    graph = network(node)
    has_four = node.input_type in WIDER or node.output_type in WIDER
    assert has_four_bits(graph) is has_four
    conversion = convert(graph, 8)
    converted = conversion.graph["table"]
    assert isinstance(converted, Table)
    assert converted.input_type is WIDER.get(node.input_type, node.input_type)
    assert converted.output_type is WIDER.get(node.output_type, node.output_type)
    assert converted.function == node.function
    steps = Fraction(converted.input_type.maximum, node.input_type.maximum) if node.input_type in WIDER else Fraction(1)
    unit = Fraction(converted.output_type.maximum, node.output_type.maximum) if node.output_type in WIDER else 1
    assert conversion.units["table"] == unit
    old = node.table.numpy().astype(np.float64)
    first = node.input_type.minimum
    for code, entry in enumerate(converted.table.numpy().tolist(), converted.input_type.minimum):
        # The definition in docs/format.md, in float64 by NumPy's own interpolation.
        exact = np.interp(code / float(steps), np.arange(first, first + len(old)), old) * float(unit)
        clipped = min(max(exact, converted.output_type.minimum), converted.output_type.maximum)
        assert abs(entry - clipped) <= 0.5 + 1e-9


@pytest.mark.parametrize("before", [DType.U4, DType.S4, DType.U8])
def test_entries_at_old_codes_are_exact(before: DType) -> None:
    """Codes of a wider type that stand for an old code exactly: both ends of the range, and zero."""
    random = np.random.default_rng(8)
    node = table(random.integers(-8, 8, table_entries(before)), before, DType.S4)
    converted = to_bits(network(node), 8)["table"]
    assert isinstance(converted, Table)
    old, new = node.table.numpy().tolist(), converted.table.numpy().tolist()
    for code in (0, before.maximum):
        after = code * converted.input_type.maximum // before.maximum
        exact = Fraction(old[code - before.minimum] * 127, 7)
        assert abs(new[after - converted.input_type.minimum] - max(exact, -128)) <= Fraction(1, 2)


def test_halves_go_away_from_zero() -> None:
    """Entries between codes of u4, by exact fractions."""
    node = table([0, 1, -1, 1, *[0] * 12], DType.U4, DType.S8)
    entries = node.table.numpy().tolist()
    converted = to_bits(network(node), 8)["table"]
    assert isinstance(converted, Table)
    for code, entry in enumerate(converted.table.numpy().tolist()):
        position = Fraction(code * 15, 127)
        left = min(int(position), 14)
        exact = entries[left] + (entries[left + 1] - entries[left]) * (position - left)
        rounded = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
        assert entry == rounded


@given(
    types=st.tuples(st.sampled_from([DType.U4, DType.S4]), TYPES), gate=st.booleans(), seed=st.integers(0, 2**32 - 1)
)
def test_a_converted_product_is_in_the_units_of_its_factors(types: tuple[DType, DType], gate: bool, seed: int) -> None:
    left, right = types
    random = np.random.default_rng(seed)
    inputs = [
        Input(name="image", dtype=DType.S8, shape=(2, 3, 3)),
        Input(name="weight", dtype=DType.S8, shape=(2, 1, 1) if gate else (2, 3, 3)),
    ]
    factor = random.integers(1, 40, 2).tolist()
    nodes: list[Node] = [
        quantize("x", "image", DType.S8, left, 3, [3, 1]),
        quantize("y", "weight", DType.S8, right, 2, [1, 3]),
        Mul(name="mul", inputs=("x", "y")),
        quantize("z", "mul", DType.S32, DType.S4, 7, factor),
        ReLU(name="relu", inputs=("mul",)),
        quantize("w", "relu", DType.U31, DType.U4, 7, factor),
    ]
    graph = Graph(inputs, nodes, ["z", "w"])
    conversion = convert(graph, 8)
    units = conversion.units
    assert units["mul"] == units["x"] * units["y"] == units["relu"]
    values = {entry.name: values_of(entry.dtype, (2, *entry.shape), "random", seed) for entry in inputs}
    after = interpret(conversion.graph, values, keep=None)
    np.testing.assert_array_equal(after["mul"], after["x"].astype(np.int64) * after["y"])
    for name in ("z", "w"):
        # From the converted product: half a step of rounding, and what the rounding of factors may add.
        index = np.array(factor).reshape(2, 1, 1) / 128
        source = np.maximum(after["mul"], 0) if name == "w" else after["mul"]
        dtype = graph.values[name].dtype
        exact = source / float(units["mul"]) * index
        low, high = (-128 / float(units[name]), 7.0) if dtype is DType.S4 else (0.0, 15.0)
        found = after[name] / float(units[name])
        assert np.abs(found - np.clip(exact, low, high)).max() <= (0.5 + 0.26) / float(units[name])
