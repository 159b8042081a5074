"""An operation of another package, found by its entry point: the reference runs it, the engine refuses it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparison import assert_equal

from nybble.backends.cpu.tune import tune
from nybble.backends.cpu.tuned import save_choices
from nybble.engine import Engine, EngineError, available_isas
from nybble.engine.profile import profile
from nybble.graph import (
    Conv2d,
    DType,
    Graph,
    GraphError,
    Input,
    ModelFormatError,
    Node,
    Quantize,
    Tensor,
    read_graph,
    write_graph,
)
from nybble.graph.convert import to_bits
from nybble.graph.ops import register, unregister
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_absolute
import outside_clamp
import outside_half
from packages import run_with_entry_points

ENTRY_POINTS = {"nybble.operations": "outside_clamp:operation"}


@pytest.fixture
def registered() -> Iterator[None]:
    register(outside_clamp.operation)
    yield
    unregister(outside_clamp.operation)


def network() -> Graph:
    weight = Tensor.from_array(DType.S4, np.array([[[[1]]], [[[-2]]]]))
    conv = Conv2d(name="conv", inputs=("x",), input_type=DType.U4, weight=weight)
    clamp = outside_clamp.Clamp(name="clamp", inputs=("conv",), low=-7, high=9)
    return Graph([Input(name="x", dtype=DType.U4, shape=(1, 2, 2))], [conv, clamp], ["clamp"])


IMAGES = np.array([[[[0, 3], [9, 15]]]], np.uint8)
EXPECTED = [[[[0, 3], [9, 9]], [[0, -6], [-7, -7]]]]


@pytest.mark.usefixtures("registered")
def test_the_reference_runs_it_and_the_directory_keeps_it(tmp_path: Path) -> None:
    graph = network()
    assert interpret(graph, IMAGES)["clamp"].tolist() == EXPECTED
    write_graph(graph, tmp_path)
    assert_equal(read_graph(tmp_path), graph)


@pytest.mark.usefixtures("registered")
def test_the_engine_refuses_it_in_one_line() -> None:
    with pytest.raises(EngineError, match=r"^clamp: the engine cannot run Clamp; [^\n]+$"):
        Engine(network())


@pytest.fixture
def halving() -> Iterator[Graph]:
    """A network whose operation from outside is said in terms of others."""
    register(outside_half.operation)
    random = np.random.default_rng(3)
    weight = Tensor.from_array(DType.S4, random.integers(-8, 8, (5, 3, 3, 3)))
    factor = Tensor.from_array(DType.U16, random.integers(0, 999, 5))
    nodes = [
        Conv2d(name="conv", inputs=("x",), input_type=DType.U4, weight=weight),
        outside_half.PositiveHalf(name="half", inputs=("conv",)),
        Quantize(name="y", inputs=("half",), input_type=DType.U31, output_type=DType.U4, factor=factor, shift=14),
    ]
    yield Graph([Input(name="x", dtype=DType.U4, shape=(3, 6, 5))], nodes, ["y"])
    unregister(outside_half.operation)


def test_an_operation_said_in_terms_of_others_runs_on_the_engine(halving: Graph, tmp_path: Path) -> None:
    images = np.random.default_rng(4).integers(0, 16, (4, 3, 6, 5)).astype(np.uint8)
    write_graph(halving, tmp_path)
    assert_equal(read_graph(tmp_path), halving)
    expected = interpret(halving, images, keep=None)
    for isa in available_isas():
        with Engine(halving, threads=1, isa=isa) as engine:
            np.testing.assert_array_equal(engine.run_integer(images), expected["y"])
            tapped = engine.tap(images)
            assert tapped.keys() <= halving.values.keys()
            for name, value in tapped.items():
                np.testing.assert_array_equal(value, expected[name])
            # Convolution, ReLU and the first requantization are one step.
            assert [step.kind for step in engine.plan.steps] == ["conv", "point"]


def test_it_is_profiled_and_tuned(halving: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path))
    monkeypatch.setenv("NYBBLE_TUNED", "1")
    images = np.random.default_rng(4).integers(0, 16, (3, 3, 6, 5)).astype(np.uint8)
    with Engine(halving, threads=1, tuned=False) as engine:
        timed = [layer.name for layer in profile(engine, images, runs=1).layers if layer.kind != "lists"]
        assert timed == [step.output for step in engine.plan.steps]
        isa = engine.isa
    found = tune(halving, images, threads=1, isa=isa, seconds=0.2)
    save_choices(halving, isa, 1, found.choices)
    with Engine(halving, threads=1, isa=isa) as tuned:
        assert tuned.plan.tuned
        np.testing.assert_array_equal(tuned.run_integer(images), interpret(halving, images)["y"])


def test_an_expansion_of_another_type_is_refused(halving: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    expanded = outside_half.operation.expanded

    def wrong(node: outside_half.PositiveHalf, inputs: object) -> list[Node]:
        first, last = expanded(node, inputs)
        return [first, replace(last, output_type=DType.S32)]

    monkeypatch.setattr(outside_half.operation, "expanded", wrong)
    graph = Graph(halving.inputs, halving.nodes[:2], ["half"])
    why = r"^half: the expansion of PositiveHalf gives s32\[5x4x3\], not u31\[5x4x3\]$"
    with pytest.raises(GraphError, match=why):
        Engine(graph, threads=1)


@pytest.mark.usefixtures("registered")
def test_its_conversion_is_refused_in_one_line() -> None:
    with pytest.raises(GraphError, match=r"^clamp: no conversion is defined for Clamp$"):
        to_bits(network(), 8)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("form", ["exact", "qdq", "float"])
def test_it_brings_its_onnx_forms(form: str) -> None:
    pytest.importorskip("onnx")
    from nybble.graph.onnx import to_onnx

    made = to_onnx(network(), form)
    assert made.operators["Clip"] == 1


@pytest.mark.usefixtures("registered")
def test_it_comes_back_from_onnx_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from nybble.graph.onnx import export_onnx, import_onnx

    export_onnx(network(), tmp_path / "network.onnx")
    again = import_onnx(tmp_path / "network.onnx").graph
    assert_equal(again, network())
    assert interpret(again, IMAGES)["clamp"].tolist() == EXPECTED


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("bounds", ["text", [1], [1, 2.5], [9, -9], None])
def test_wrong_metadata_of_it_are_refused_in_one_line(bounds: object) -> None:
    pytest.importorskip("onnx")
    from nybble.graph.onnx import OnnxImportError, from_onnx, to_onnx

    model = to_onnx(network()).model
    (entry,) = [entry for entry in model.metadata_props if entry.key == "nybble.nodes"]
    assert json.loads(entry.value)["clamp"] == {"clamp": [-7, 9]}
    entry.value = json.dumps({"clamp": {"clamp": bounds}})
    with pytest.raises(OnnxImportError, match=r"^clamp: [^\n]+$"):
        from_onnx(model)


def test_an_onnx_operator_that_only_it_knows_is_read(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from nybble.graph.onnx import OnnxImportError, export_onnx, import_onnx

    weight = Tensor.from_array(DType.S4, np.array([[[[1]]], [[[-2]]]]))
    conv = Conv2d(name="conv", inputs=("x",), input_type=DType.U4, weight=weight)
    absolute = outside_absolute.Absolute(name="absolute", inputs=("conv",))
    register(outside_absolute.operation)
    try:
        graph = Graph([Input(name="x", dtype=DType.U4, shape=(1, 2, 2))], [conv, absolute], ["absolute"])
        export_onnx(graph, tmp_path / "network.onnx")
        assert_equal(import_onnx(tmp_path / "network.onnx").graph, graph)
    finally:
        unregister(outside_absolute.operation)
    with pytest.raises(OnnxImportError, match=r"absolute: operator Abs is not supported: "):
        import_onnx(tmp_path / "network.onnx")


def test_what_it_expands_to_is_exported_where_it_has_no_form(halving: Graph, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from nybble.graph.onnx import export_onnx, import_onnx

    export_onnx(halving, tmp_path / "network.onnx")
    again = import_onnx(tmp_path / "network.onnx").graph
    assert [node.name for node in again] == ["conv", "half_positive", "half", "y"]
    images = np.random.default_rng(4).integers(0, 16, (4, 3, 6, 5)).astype(np.uint8)
    np.testing.assert_array_equal(interpret(again, images)["y"], interpret(halving, images)["y"])


def test_its_entry_point_is_all_that_onnx_needs(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = tmp_path / "network"
    register(outside_clamp.operation)
    write_graph(network(), model)
    unregister(outside_clamp.operation)
    code = (
        "import numpy as np; from nybble.graph import read_graph; from nybble.reference import interpret\n"
        "from nybble.graph.onnx import from_onnx, to_onnx\n"
        f"graph = read_graph({str(model)!r})\n"
        "again = from_onnx(to_onnx(graph).model).graph\n"
        f"images = np.array({IMAGES.tolist()}, np.uint8)\n"
        "print(interpret(again, images)['clamp'].tolist(), to_onnx(graph, 'exact').form)"
    )
    done = run_with_entry_points(tmp_path, ENTRY_POINTS, code)
    assert (done.stdout.strip(), done.stderr) == (f"{EXPECTED} exact", "")


def test_without_its_package_the_directory_is_refused(tmp_path: Path) -> None:
    register(outside_clamp.operation)
    write_graph(network(), tmp_path)
    unregister(outside_clamp.operation)
    with pytest.raises(ModelFormatError, match=r"unknown layer type 'Clamp' \(known: Add, "):
        read_graph(tmp_path)


def test_an_entry_point_is_found(tmp_path: Path) -> None:
    model = tmp_path / "network"
    register(outside_clamp.operation)
    write_graph(network(), model)
    unregister(outside_clamp.operation)
    code = (
        "import sys, numpy as np; from nybble.graph import read_graph; from nybble.reference import interpret\n"
        "assert 'importlib.metadata' not in sys.modules and 'outside_clamp' not in sys.modules\n"
        f"graph = read_graph({str(model)!r})\n"
        f"print(interpret(graph, np.array({IMAGES.tolist()}, np.uint8))['clamp'].tolist())"
    )
    done = run_with_entry_points(tmp_path, ENTRY_POINTS, code)
    assert (done.stdout.strip(), done.stderr) == (str(EXPECTED), "")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("outside_clamp:nothing", "cannot be loaded: "),
        ("no_such_module:operation", "cannot be loaded: No module named"),
        ("outside_clamp:Clamp", "names a type, not a Operation"),
    ],
)
def test_an_entry_point_that_is_no_operation_is_named(tmp_path: Path, value: str, why: str) -> None:
    code = (
        "from nybble.graph.ops import operations; from nybble.graph.plugins import PluginError\n"
        "try: operations()\nexcept PluginError as error: print(error)"
    )
    done = run_with_entry_points(tmp_path, {"nybble.operations": value}, code)
    assert done.stdout.startswith(f"the entry point 'outside' of nybble.operations ({value}) {why}")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
