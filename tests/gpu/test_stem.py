"""When the first convolution has the stem's kernel, and photos through it."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from cases import stems
from hypothesis import given, settings

from emulated_gpu import NEEDS_EMULATOR
from nybble.backends import Options
from nybble.backends.cuda import CudaBackend, open_emulated
from nybble.backends.cuda.kernels import STEMS
from nybble.backends.cuda.plan import CudaPlan, make_plan
from nybble.backends.cuda.stem import ROWS, SHARED, choose_tile
from nybble.graph import (
    AvgPool2d,
    Conv2d,
    DType,
    Graph,
    Input,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Preprocessing,
    Quantize,
    Tensor,
)
from nybble.lower import Window


@NEEDS_EMULATOR
@pytest.mark.parametrize("kernel", STEMS)
@settings(max_examples=5)
@given(data=st.data())
def test_photos_are_normalised_on_the_device(kernel: str, data: st.DataObject) -> None:
    graph, x = data.draw(stems(kernel.removeprefix("stem_"), channels=3))
    entry = graph.inputs[0]
    preprocessing = Preprocessing(crop=entry.shape[1:], resize=max(entry.shape), input_type=entry.dtype)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    photos = random.integers(0, 256, (len(x), *entry.shape[1:], 3), np.uint8)
    numbers = np.ascontiguousarray(preprocessing.normalise(photos).transpose(0, 3, 1, 2))
    executable = CudaBackend("test", open_emulated, batch_images=2).compile(graph, Options(isa="sm_75"))
    expected = executable.run(preprocessing.quantize(numbers))
    np.testing.assert_array_equal(executable.run_photos(photos, preprocessing), expected)
    np.testing.assert_array_equal(executable.run_normalised(numbers, preprocessing), expected)
    executable.close()


def planned(
    channels: int = 3,
    size: Pair = Pair(7, 7),
    dtype: DType = DType.S8,
    pool: type[MaxPool2d | AvgPool2d] | None = MaxPool2d,
    window: Pair = Pair(3, 3),
    steps: Pair = Pair(2, 2),
    groups: int = 1,
) -> CudaPlan:
    weight = np.ones((4 * groups, channels // groups, *size), np.int8)
    kind = DType.S4 if dtype.bits == 4 else DType.S8
    conv = Conv2d(
        name="conv",
        inputs=("x",),
        input_type=dtype,
        weight=Tensor.from_array(kind, weight),
        stride=Pair(2, 2),
        padding=Padding(3, 3, 3, 3),
        groups=groups,
    )
    factor = Tensor.from_array(DType.U32, np.ones(4 * groups, np.uint32))
    codes = Quantize(name="codes", inputs=("conv",), input_type=DType.S32, output_type=DType.U4, factor=factor, shift=9)
    nodes: list[Node] = [conv, codes]
    if pool is not None:
        nodes.append(pool(name="pool", inputs=("codes",), input_type=DType.U4, kernel_size=window, stride=steps))
    graph = Graph([Input(name="x", dtype=dtype, shape=(channels, 60, 50))], nodes, [nodes[-1].name])
    return make_plan(graph, {})


def test_the_stem_of_a_resnet() -> None:
    pool = Window(Pair(3, 3), Pair(2, 2), Padding(1, 1, 1, 1))
    tile = choose_tile(Window(Pair(7, 7), Pair(2, 2), Padding(3, 3, 3, 3)), pool, (56, 56))
    assert tile is not None
    assert (tile.height, tile.width, tile.blocks((56, 56))) == (7, 8, (8, 7))
    assert tile.region == (15, 17) and tile.patch == (35, 40)


@pytest.mark.parametrize(
    "options",
    [{"channels": 5}, {"size": Pair(7, 9)}, {"dtype": DType.U4}, {"channels": 4, "groups": 2}],
    ids=lambda options: next(iter(options)),
)
def test_other_first_layers_have_none(options: dict[str, object]) -> None:
    plan = planned(pool=None, **options)  # type: ignore[arg-type]
    assert plan.stem is None and "x" in plan.offsets


@given(
    *(st.builds(Pair, st.integers(1, 8), st.integers(1, 8)) for _ in range(4)),
    st.builds(Pair, st.integers(1, 99), st.integers(1, 99)),
)
def test_tiles_fit(size: Pair, stride: Pair, pool: Pair, pool_stride: Pair, extents: Pair) -> None:
    tile = choose_tile(Window(size, stride), Window(pool, pool_stride), extents)
    if tile is None:
        return
    down, across = tile.blocks(extents)
    assert down * tile.height >= extents.rows and across * tile.width >= extents.columns
    assert tile.region[0] * tile.region[1] <= ROWS
    assert tile.patch[0] * tile.patch[1] * 4 + 64 * 32 * size.rows <= SHARED


def test_a_pool_that_repeats_most_sums_is_not_fused() -> None:
    assert [len(run.steps) for run in planned().runs] == [2]
    assert [len(run.steps) for run in planned(window=Pair(15, 15), steps=Pair(1, 1)).runs] == [1, 1]
    assert [len(run.steps) for run in planned(pool=AvgPool2d).runs] == [1, 1]
