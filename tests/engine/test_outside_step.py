"""An operation of another package that brings a lowering and a step of the CPU backend: neither edits a file here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nybble.backends.cpu.choices import Choices
from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.kinds import KINDS
from nybble.backends.cpu.rows import rows
from nybble.engine import Engine, EngineError, available_isas
from nybble.graph import Conv2d, DType, Graph, Input, Linear, Quantize, Tensor, write_graph
from nybble.graph.ops import register, unregister
from nybble.graph.plugins import PluginError
from nybble.lower import LOWERINGS, fuse
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_top
from packages import run_with_entry_points


@pytest.fixture
def operation() -> Iterator[None]:
    register(outside_top.operation)
    yield
    unregister(outside_top.operation)


@pytest.fixture
def lowering(operation: None) -> Iterator[None]:
    LOWERINGS.register(outside_top.lowering)
    yield
    LOWERINGS.unregister(outside_top.lowering)


@pytest.fixture
def step_kind(lowering: None) -> Iterator[None]:
    KINDS.register(outside_top.step_kind)
    yield
    KINDS.unregister(outside_top.step_kind)


def network() -> Graph:
    random = np.random.default_rng(3)
    first, second = (Tensor.from_array(DType.S4, random.integers(-8, 8, (40, count, 3, 3))) for count in (3, 40))
    factor = Tensor.from_array(DType.U16, random.integers(1, 999, 40))
    nodes = [
        Conv2d(name="conv", inputs=("x",), input_type=DType.U4, weight=first),
        outside_top.Top(name="top", inputs=("conv",), high=70),
        Quantize(name="q", inputs=("top",), input_type=DType.U31, output_type=DType.U4, factor=factor, shift=12),
        Conv2d(name="y", inputs=("q",), input_type=DType.U4, weight=second),
    ]
    return Graph([Input(name="x", dtype=DType.U4, shape=(3, 9, 8))], nodes, ["y"])


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 16, (count, 3, 9, 8)).astype(np.uint8)


@pytest.mark.usefixtures("step_kind")
@pytest.mark.parametrize("isa", available_isas())
def test_it_runs_on_the_engine(isa: str) -> None:
    graph, x = network(), images(3)
    expected = interpret(graph, x, keep=None)
    with Engine(graph, threads=1, isa=isa) as engine:
        assert [step.kind for step in engine.plan.steps] == ["conv", "top", "conv"]
        np.testing.assert_array_equal(engine.run_integer(x), expected["y"])
        for name, value in engine.tap(x).items():
            np.testing.assert_array_equal(value, expected[name])


@pytest.mark.usefixtures("step_kind")
def test_its_channels_may_be_reordered() -> None:
    """The sparse method reads its result in an order of its own, which the operation passes on."""
    isa = next((isa for isa in reversed(available_isas()) if "sparse" in rows(isa)), None)
    if isa is None:
        pytest.skip("no instruction set of this machine reads lists")
    choices = Choices({"y": Kernel("sparse", block_outputs=32, list_block=16)})
    with Engine(network(), threads=1, isa=isa, choices=choices) as engine:
        np.testing.assert_array_equal(engine.plan.orders["q"], engine.plan.orders["conv"])


@pytest.mark.usefixtures("step_kind")
def test_what_its_kind_refuses_is_one_line() -> None:
    weight = Tensor.from_array(DType.S4, np.ones((4, 3), np.int64))
    nodes = [
        Linear(name="fc", inputs=("x",), input_type=DType.U4, weight=weight),
        outside_top.Top(name="top", inputs=("fc",), high=9),
    ]
    graph = Graph([Input(name="x", dtype=DType.U4, shape=(3,))], nodes, ["top"])
    with pytest.raises(EngineError, match=r"^top: the engine cuts images only; run it on the reference, [^\n]+$"):
        Engine(graph)


@pytest.mark.usefixtures("lowering")
def test_a_step_that_a_backend_does_not_have_is_refused_in_one_line() -> None:
    assert [step.kind for step in fuse(network())] == ["conv", "top", "conv"]
    with pytest.raises(EngineError, match=r"^top: the engine cannot run Top; run it on the reference, [^\n]+$"):
        Engine(network())


@pytest.mark.usefixtures("operation")
def test_without_a_lowering_it_is_another_step() -> None:
    steps = fuse(network())
    assert [step.kind for step in steps] == ["conv", "other", "point", "conv"]
    assert [step.output for step in steps] == ["conv", "top", "q", "y"]


@pytest.mark.usefixtures("step_kind")
def test_keys_are_registered_once() -> None:
    with pytest.raises(PluginError, match=r"^the Lowering of Top is taken by outside_top$"):
        LOWERINGS.register(outside_top.TopLowering())
    with pytest.raises(PluginError, match=r"^the StepKind of top is taken by outside_top$"):
        KINDS.register(outside_top.TopKind())


@pytest.mark.usefixtures("operation")
def test_entry_points_are_found(tmp_path: Path) -> None:
    write_graph(network(), tmp_path / "network")
    expected = interpret(network(), images(1))["y"]
    code = (
        f"import numpy as np, nybble; engine = nybble.load({str(tmp_path / 'network')!r})\n"
        f"y = engine.run_integer(np.array({images(1).tolist()}, np.uint8))\n"
        "print([step.kind for step in engine.plan.steps], int(y.sum()), int(np.abs(y).max()))"
    )
    groups = {
        "nybble.operations": "outside_top:operation",
        "nybble.lowerings": "outside_top:lowering",
        "nybble.cpu_steps": "outside_top:step_kind",
    }
    done = run_with_entry_points(tmp_path, groups, code)
    wanted = f"['conv', 'top', 'conv'] {int(expected.sum())} {int(np.abs(expected).max())}\n"
    assert (done.stdout, done.stderr) == (wanted, "")
