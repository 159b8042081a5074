"""Networks converted to eight bits: the engine runs them exactly, and they answer what the four-bit ones answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agreement import ISAS, assert_agrees, assert_same
from hypothesis import assume, given

from nybble.engine import Engine
from nybble.graph import Graph, GraphError, read_graph
from nybble.graph.convert import to_bits
from nybble.graph.types import Array
from nybble.images import LabelledFolder, integer_input, load_photo
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet
from strategies import graphs, values_of

#: Every tenth photo, all of them of the selection set (every fifth).
STEP = 10


@pytest.fixture(scope="module")
def graph(shared_data: Path) -> Graph:
    return read_graph(shared_data / "nvidia-resnet50-int4")


@pytest.fixture(scope="module")
def wide(graph: Graph) -> Graph:
    return to_bits(graph, 8)


@pytest.fixture(scope="module")
def images(shared_data: Path, graph: Graph) -> Array:
    assert graph.preprocessing is not None
    folder = LabelledFolder(shared_data / "imagenet-1k-one-each")
    photos = [load_photo(folder[index].path, graph.preprocessing, exif=False) for index in range(0, len(folder), STEP)]
    return integer_input(np.stack(photos), graph.preprocessing)


@pytest.fixture(scope="module")
def expected(wide: Graph, images: Array) -> dict[str, Array]:
    return interpret(wide, images[:2], keep=None)


@pytest.mark.data
@pytest.mark.parametrize("isa", ISAS)
def test_every_step_equals_the_reference(wide: Graph, images: Array, expected: dict[str, Array], isa: str) -> None:
    with Engine(wide, threads=2, isa=isa) as engine:
        for name, value in engine.tap(images[:2]).items():
            assert_same(value, expected[name], name)
        assert_same(engine.run_integer(images[:2]), expected["scale"])


@pytest.mark.data
def test_it_answers_what_the_4_bit_network_answers(graph: Graph, wide: Graph, images: Array) -> None:
    """The 4-bit network's own rounding bounds this: the same network without rounding correlates with it by 0.988."""
    logits = []
    for each in (graph, wide):
        with Engine(each, threads=2) as engine:
            logits.append(engine.run_integer(images))
    before, after = logits
    assert np.mean(before.argmax(axis=1) == after.argmax(axis=1)) >= 0.9
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98
    assert abs(np.mean(after - before)) < 1e-3
    assert np.mean(np.abs(after - before)) < 0.15 * before.std()


def test_a_small_network() -> None:
    graph = to_bits(bottleneck_resnet(blocks=(2, 1, 1, 1), width=16, image=32, classes=10), 8)
    assert_agrees(graph, np.random.default_rng(3).integers(-127, 128, (9, 3, 32, 32)).astype(np.int8))


@given(graph=graphs())
def test_drawn_networks(graph: Graph) -> None:
    assume(len(graph.inputs) == 1)
    try:
        converted = to_bits(graph, 8)
    except GraphError:
        assume(False)
        raise
    assume(converted is not graph)
    (entry,) = converted.inputs
    # The engine has one output.
    single = Graph(converted.inputs, converted.nodes, converted.outputs[:1])
    assert_agrees(single, values_of(entry.dtype, (3, *entry.shape), "random", 1))
