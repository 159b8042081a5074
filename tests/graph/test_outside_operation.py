"""An operation of another package, found by its entry point: the reference runs it, the engine refuses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comparison import assert_equal

from nybble.engine import Engine, EngineError
from nybble.graph import Conv2d, DType, Graph, Input, ModelFormatError, Tensor, read_graph, write_graph
from nybble.graph.ops import register, unregister
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_clamp
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
