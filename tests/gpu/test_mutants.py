"""Changed copies of the kernels: the emulation, with the reference, must notice each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nybble.backends.cuda import emulated
from nybble.engine import Engine
from nybble.graph import Conv2d, DType, Graph, Input, Padding, Pair, Quantize, ReLU, Tensor
from nybble.graph.types import Array
from nybble.reference import interpret

sys.path.append(str(Path(__file__).with_name("mutants")))
from build import MutantError, build, compiler, module
from mutants import MUTANTS, Mutant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler() is None, reason="no C++ compiler"),
]
#: Each on one generation that it concerns, in turns: compiling takes seconds.
CASES = [(mutant, mutant.generations[i % len(mutant.generations)]) for i, mutant in enumerate(MUTANTS)]


def layer(
    target: DType | None,
    shape: tuple[int, int, int],
    outputs: int,
    kernel: Pair,
    shift: int,
    relu: bool,
    **geometry: object,
) -> tuple[Graph, Array]:
    """A convolution of 4-bit codes whose rows, columns, strides, paddings and dilations all differ, and one input."""
    random = np.random.default_rng(outputs)
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=DType.U4,
        weight=Tensor.from_array(DType.S4, random.integers(-8, 8, (outputs, shape[0], *kernel))),
        bias=Tensor.from_array(DType.S32, random.integers(-999, 999, outputs)),
        **geometry,  # type: ignore[arg-type]
    )
    nodes = [conv, *([ReLU(name="relu", inputs=("conv",))] if relu else [])]
    if target is not None:
        factor = Tensor.from_array(DType.U32, random.integers(1, 9, outputs))
        last = nodes[-1].name
        declared = DType.U31 if relu else DType.S32
        nodes.append(
            Quantize(name="codes", inputs=(last,), input_type=declared, output_type=target, factor=factor, shift=shift)
        )
    entry = Input(name="x", dtype=DType.U4, shape=shape)
    x = random.integers(0, 16, (1, *shape)).astype(np.uint8)
    return Graph([entry], nodes, [nodes[-1].name]), x


#: Layers and the kernel that runs each.
LAYERS = (
    (
        layer(
            None,
            (70, 9, 7),
            70,
            Pair(3, 2),
            0,
            True,
            stride=Pair(1, 2),
            padding=Padding(2, 1, 0, 1),
            dilation=Pair(2, 1),
        ),
        "conv_u4s4_m64n64k32_any_any",
    ),
    (
        layer(DType.U4, (130, 5, 13), 140, Pair(2, 3), 9, False, padding=Padding(1, 0, 1, 1)),
        "conv_u4s4_m64n64k32_any_narrow",
    ),
    (layer(DType.S8, (200, 5, 26), 20, Pair(1, 1), 6, False), "conv_u4s4_m128n64k32_one_any"),
    (layer(None, (200, 1, 129), 20, Pair(1, 1), 0, False), "conv_u4s4_m128n64k32_one_any"),
)


def differs(library: Path, generation: int, patch: pytest.MonkeyPatch) -> bool:
    """Whether any layer gives another result than the reference, or a fault, in three orders."""
    patch.setattr(emulated, "emulator", lambda: module(library))
    for (graph, x), kernel in LAYERS:
        output = graph.outputs[0]
        wide = [name for name in graph.values if name == output and kernel.endswith("narrow")]
        assert not wide or graph.values[output].dtype is DType.U4
        expected = interpret(graph, x)[output]
        with Engine(graph, device="cuda-emulated", isa=f"sm_{generation}", choices={output: kernel}) as engine:  # type: ignore[arg-type]
            for _ in range(3):
                try:
                    found = engine.run_integer(x)
                except MutantError:
                    return True
                if not np.array_equal(found, expected):
                    return True
    return False


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.mark.parametrize("generation", emulated.GENERATIONS)
def test_the_unchanged_kernels_pass(generation: int, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    assert not differs(build(None, generation, tmp_path), generation, patch)


@pytest.mark.parametrize(("mutant", "generation"), CASES, ids=lambda value: getattr(value, "name", value))
def test_a_changed_kernel_is_noticed(
    mutant: Mutant, generation: int, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    assert differs(build(mutant, generation, tmp_path), generation, patch)


def test_there_are_enough_of_every_kind() -> None:
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
