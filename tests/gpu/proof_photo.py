"""Every value of the published network on a photo: with the PTX of each generation, and with the source emulated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from compiled import needs_nvrtc, on_ptx, ptx_module

import nybble
from nybble.backends.cuda.device import GENERATIONS
from nybble.engine import Engine
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.images import load_photo
from nybble.reference import interpret

needs_nvrtc()
pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def photo(shared_data: Path) -> Iterator[tuple[Graph, Array, dict[str, Array]]]:
    graph = nybble.read_graph(shared_data / "nvidia-resnet50-int4")
    preprocessing = graph.preprocessing
    assert preprocessing is not None
    file = sorted((shared_data / "imagenet-val-10").glob("*.JPEG"))[0]
    samples = load_photo(file, preprocessing)[None]
    x = preprocessing.quantize(preprocessing.normalise(samples)).transpose(0, 3, 1, 2).copy()
    yield graph, x, interpret(graph, x, keep=None)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("how", ["ptx", "source"])
def test_every_value_of_a_photo(photo: tuple[Graph, Array, dict[str, Array]], how: str, generation: int) -> None:
    graph, x, expected = photo
    with (
        on_ptx(ptx_module(generation)) if how == "ptx" else nullcontext(),
        Engine(graph, device="cuda-emulated", isa=f"sm_{generation}") as engine,
    ):
        found = engine.tap(x)
    assert len(found) == 52
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
