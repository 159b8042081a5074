"""Tables of codes: as a step, and in the epilogue of every row of the table of convolution kernels."""

from __future__ import annotations

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_same
from hypothesis import given
from native_steps import Epilogue, Steps, codes, images_of

from nybble import _native
from nybble.graph import DType
from nybble.graph.types import ACTIVATIONS, Array
from row_record import compared_kernel

SHAPES = st.tuples(st.sampled_from([1, 3, 31, 32, 33, 63, 64, 65, 96, 97, 130]), st.integers(1, 5), st.integers(1, 7))
SEEDS = st.integers(0, 2**32 - 1)
#: (groups, input type): a layer with one group and small activations, which most rows take; a depthwise one; signed.
LAYERS = [(1, DType.U4), (1, DType.U8), (1, DType.S8), (65, DType.U4), (65, DType.S8)]


def table_of(random: np.random.Generator, source: DType, target: DType) -> Array:
    """Any results of a type; that of 0 is not 0, as padding must stay 0 all the same."""
    table = random.integers(
        target.minimum, target.maximum + 1, 2 ** (source.bits if source.is_signed else source.magnitude_bits)
    )
    table[-source.minimum] = target.maximum
    return table


def table_step(steps: Steps, source: int, target: DType, table: Array) -> int:
    spec = _native.TableSpec()
    spec.input, spec.output = source, steps.value(target, steps.shapes[source])
    spec.table = table.tolist()
    steps.program.add_table(spec)
    return spec.output


@given(
    SEEDS,
    st.sampled_from(ACTIVATIONS),
    st.sampled_from(ACTIVATIONS),
    SHAPES,
    st.integers(1, 3),
    st.sampled_from([1, 5]),
)
def test_a_table_gives_the_result_of_each_code(
    seed: int, source: DType, target: DType, shape: tuple[int, int, int], threads: int, count: int
) -> None:
    random = np.random.default_rng(seed)
    images = images_of(random, count, shape)
    table = table_of(random, source, target)
    values = np.clip(images.astype(np.int64) - (128 if source.is_signed else 0), source.minimum, source.maximum)
    for isa in ISAS:
        steps = Steps(isa, shape, threads)
        output = table_step(steps, steps.cut(source, 0, shape[0]), target, table)
        assert_same(steps.run(output, images), table[values - source.minimum].astype(target.storage), isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("source", ACTIVATIONS)
def test_every_code_of_every_table(isa: str, source: DType) -> None:
    """One channel for each code, with a permutation of all bytes as the table: no two codes share a result."""
    values = codes(source)
    target = DType.U8 if source.is_signed else DType.S8
    table = np.random.default_rng(0).permutation(256)[: len(values)] + target.minimum
    images = (values + (128 if source.is_signed else 0)).astype(np.uint8).reshape(1, -1, 1, 1)
    steps = Steps(isa, images.shape[1:])
    output = table_step(steps, steps.cut(source, 0, len(values)), target, table)
    assert_same(steps.run(output, images), table.astype(target.storage).reshape(images.shape), isa)
    compared_kernel(isa, "table")


@pytest.mark.parametrize("isa", ISAS)
def test_a_table_of_the_networks_input(isa: str) -> None:
    """Which has no padding channels. Bits beyond the index are ignored: memory is safe whatever the input holds."""
    images = images_of(np.random.default_rng(1), 4, (3, 5, 7))
    for size in (16, 128, 256):
        steps = Steps(isa, (3, 5, 7))
        table = np.random.default_rng(size).integers(0, 256, size)
        output = table_step(steps, steps.input, DType.U8, table)
        assert_same(steps.run(output, images), table[images.astype(np.int64) % size].astype(np.uint8), (isa, size))


CHANNELS, OUTPUTS, SIZE = 65, 65, (6, 7)


def layer_of(groups: int, source: DType) -> _native.ConvLayer:
    return _native.ConvLayer(
        inputs=(CHANNELS, *SIZE),
        outputs=(OUTPUTS, *SIZE),
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1),
        dilation=(1, 1),
        groups=groups,
        low=source.minimum,
        high=source.maximum,
        most_weight=8,
        is_padded=True,
    )


#: Every row with the layers that it takes.
CASES = [
    (isa, row.name, groups, source)
    for isa in ISAS
    for row in _native.kernel_rows(isa)
    for groups, source in LAYERS
    if row.why_not(layer_of(groups, source)) is None
]


@pytest.mark.parametrize(("isa", "method", "groups", "source"), CASES)
def test_a_table_in_the_epilogue_of_a_convolution(isa: str, method: str, groups: int, source: DType) -> None:
    """Of every row that takes the layer, for requantizing in 16-bit, float32 and double lanes, and lists of the result.

    The sums are those of the direct kernel; a second convolution reads the lists of what the table wrote.
    """
    [row] = [row for row in _native.kernel_rows(isa) if row.name == method]
    random = np.random.default_rng([groups, source.magnitude])
    weights = random.integers(-8, 8, (OUTPUTS, CHANNELS // groups, 3, 3)).astype(np.int8)
    bias = random.integers(-100, 100, OUTPUTS).tolist()
    images = images_of(random, 4, (CHANNELS, *SIZE))

    def convolve(steps: Steps, name: str, epilogue: Epilogue, lists: tuple[int, ...] = ()) -> int:
        spec = _native.ConvSpec()
        spec.input = steps.cut(source, 0, CHANNELS)
        if group := row.list_group if name == method else 0:
            copy = steps.value(source, steps.shapes[spec.input])
            point = _native.PointSpec()
            point.input, point.output, point.output_lists = spec.input, copy, [steps.lists(copy, group)]
            Epilogue(factor=np.ones(CHANNELS, np.int64), codes=source).set(point)
            steps.program.add_point(point)
            spec.input, spec.lists = copy, point.output_lists[0]
        spec.method, spec.magnitude = name, source.magnitude
        spec.kernel_h = spec.kernel_w = 3
        spec.pad_top = spec.pad_left = 1
        spec.groups, spec.bias = groups, bias
        spec.block_outputs, spec.tile_pixels = min(64, row.most_outputs), 5
        spec.output = steps.value(epilogue.output, (OUTPUTS, *SIZE))
        spec.output_lists = [steps.lists(spec.output, group) for group in lists]
        epilogue.set(spec)
        steps.program.add_conv(spec, weights)
        if spec.output_lists:
            reader = _native.ConvSpec()
            reader.input, reader.lists, reader.method = spec.output, spec.output_lists[0], "sparse"
            reader.magnitude, reader.output = 15, steps.value(DType.S32, (OUTPUTS, *SIZE))
            steps.program.add_conv(reader, np.eye(OUTPUTS, dtype=np.int8).reshape(OUTPUTS, OUTPUTS, 1, 1))
            return reader.output
        return spec.output

    plain = Steps("scalar", (CHANNELS, *SIZE))
    sums = plain.run(convolve(plain, "direct", Epilogue()), images)
    spread = int(np.abs(sums).max())
    relus = (None, 2**31 - 1, spread // 2)
    for index, (kind, shift, relu) in enumerate(product((DType.S8, DType.U8, DType.U4, DType.S4), (16, 31), relus)):
        target = (DType.U4, DType.S8)[index % 2]
        factor = np.full(OUTPUTS, max(1, (kind.magnitude << shift) // spread)) + np.arange(OUTPUTS)
        epilogue = Epilogue(relu, factor, shift, kind, table_of(random, kind, target), target)
        expected = epilogue.expected(sums)
        steps = Steps(isa, (CHANNELS, *SIZE), threads=1 + index % 3)
        assert_same(steps.run(convolve(steps, method, epilogue), images), expected, (kind, target, shift, relu))
        if target is DType.U4 and isa != "scalar":
            steps = Steps(isa, (CHANNELS, *SIZE), threads=2)
            read = steps.run(convolve(steps, method, epilogue, (2,)), images)
            assert_same(read, expected.astype(np.int32), (kind, shift, relu, "lists"))


@given(SEEDS, st.sampled_from(ACTIVATIONS), st.sampled_from(ACTIVATIONS), SHAPES)
def test_a_table_in_the_epilogue_of_a_point(seed: int, kind: DType, target: DType, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(seed)
    images = images_of(random, 3, shape)
    factor = random.integers(1, 2**12, shape[0])
    epilogue = Epilogue(None, factor, 11, kind, table_of(random, kind, target), target)
    for isa in ISAS:
        steps = Steps(isa, shape)
        spec = _native.PointSpec()
        spec.input, spec.output = steps.cut(DType.S8, 0, shape[0]), steps.value(target, shape)
        epilogue.set(spec)
        steps.program.add_point(spec)
        assert_same(steps.run(spec.output, images), epilogue.expected(images.astype(np.int64) - 128), isa)
