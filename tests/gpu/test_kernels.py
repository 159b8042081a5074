"""Every kernel of every generation, emulated on the host, compared with the reference on random layers."""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from cases import NETWORKS, assert_agrees, assert_numbers_agree, every_kind_of_block, layers, stems
from hypothesis import given, settings

from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.cuda.device import GENERATIONS
from nybble.backends.cuda.kernels import STEMS, ConvKernel, all_kernels
from nybble.backends.cuda.plan import make_plan
from nybble.engine import Engine, EngineError
from nybble.graph import Conv2d, DType, Graph, Input, Tensor
from nybble.graph.types import ACTIVATIONS

sys.path.append(str(Path(__file__).parent.parent / "engine"))
from networks import images, stacked_networks

pytestmark = NEEDS_EMULATOR

GENERATION = pytest.mark.parametrize("generation", GENERATIONS)


@GENERATION
@pytest.mark.parametrize("kernel", all_kernels(), ids=lambda kernel: kernel.name)
@settings(max_examples=6)
@given(data=st.data())
def test_every_convolution_kernel(kernel: ConvKernel, generation: int, data: st.DataObject) -> None:
    graph, x = data.draw(layers(kernel))
    assert_agrees(graph, x, generation, {graph.outputs[0]: kernel.name})


@GENERATION
@pytest.mark.parametrize("kernel", STEMS)
@settings(max_examples=10)
@given(data=st.data())
def test_every_stem(kernel: str, generation: int, data: st.DataObject) -> None:
    graph, x = data.draw(stems(kernel.removeprefix("stem_")))
    stem = make_plan(graph, {}).stem
    assert stem is not None and stem.kernel == kernel
    assert_agrees(graph, x, generation)


@GENERATION
@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=6)
@given(data=st.data())
def test_drawn_layers_with_any_epilogue(kind: str, generation: int, data: st.DataObject) -> None:
    graph = data.draw(NETWORKS[kind])
    assert_agrees(graph, data.draw(images(graph, 2)), generation)


@GENERATION
@settings(max_examples=4)
@given(data=st.data())
def test_stacked_blocks(generation: int, data: st.DataObject) -> None:
    graph = data.draw(stacked_networks())
    assert_agrees(graph, data.draw(images(graph, 5)), generation)


@GENERATION
@pytest.mark.parametrize("dtype", ACTIVATIONS)
def test_normalised_photos(dtype: DType, generation: int) -> None:
    assert_numbers_agree(dtype, generation)


@GENERATION
def test_a_small_network_with_every_kind_of_block(generation: int) -> None:
    assert_agrees(*every_kind_of_block(), generation)


@pytest.mark.parametrize(
    ("choices", "why"),
    [
        ({"nothing": "conv_u4s4_m64n64k32_one_any"}, "'nothing' is not the result of a convolution"),
        ({"conv": "conv_u4s4_m64n64k32_one_any"}, "conv_u4s4_m64n64k32_one_any cannot run it; these can: conv_s8s8"),
    ],
)
def test_choices_that_cannot_be(choices: dict[str, str], why: str) -> None:
    weight = Tensor.from_array(DType.S8, np.ones((2, 3, 1, 1), np.int8))
    conv = Conv2d(name="conv", inputs=("x",), input_type=DType.S8, weight=weight)
    graph = Graph([Input(name="x", dtype=DType.S8, shape=(3, 2, 2))], [conv], ["conv"])
    with pytest.raises(EngineError, match=why):
        Engine(graph, device="cuda-emulated", choices=choices)  # type: ignore[arg-type]
