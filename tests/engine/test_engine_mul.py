"""Products of two values, elementwise and by a gate, with every epilogue."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_same
from hypothesis import given
from native_steps import Epilogue, Steps, images_of
from test_engine_table import SEEDS, SHAPES, table_of

from nybble import _native
from nybble.graph import DType
from nybble.graph.types import ACTIVATIONS, Array
from row_record import compared_kernel


def multiply(steps: Steps, x: int, y: int, epilogue: Epilogue, magnitudes: tuple[int, int] = (255, 255)) -> int:
    spec = _native.MulSpec()
    spec.input, spec.other = x, y
    spec.magnitude, spec.other_magnitude = magnitudes
    spec.output = steps.value(epilogue.output, steps.shapes[x])
    epilogue.set(spec)
    steps.program.add_mul(spec)
    return spec.output


def operand(images: Array, dtype: DType, first: int, channels: int) -> Array:
    """The values that `Steps.cut` gives."""
    values = images[:, first : first + channels].astype(np.int64) - (128 if dtype.is_signed else 0)
    return np.clip(values, dtype.minimum, dtype.maximum)


@st.composite
def epilogues(draw: st.DrawFn, channels: int, largest: int, random: np.random.Generator) -> Epilogue:
    """None, or requantizing such that results fill their range, with and without ReLU and table."""
    relu = draw(st.sampled_from([None, None, 2**31 - 1, largest // 2]))
    if draw(st.integers(0, 4)) == 0:
        return Epilogue(relu)
    kind = draw(st.sampled_from(ACTIVATIONS))
    shift = draw(st.sampled_from([0, 1, 8, 15, 16, 17, 20, 26, 31]))
    most = max(1, (2 * kind.magnitude << shift) // largest)
    factor = random.integers(1, min(most, 2**32 - 1) + 1, channels)
    if draw(st.booleans()):
        return Epilogue(relu, factor, shift, kind, output=kind)
    target = draw(st.sampled_from(ACTIVATIONS))
    return Epilogue(relu, factor, shift, kind, table_of(random, kind, target), target)


@given(
    st.data(),
    SEEDS,
    st.sampled_from(ACTIVATIONS),
    st.sampled_from(ACTIVATIONS),
    SHAPES,
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from([1, 5]),
)
def test_products(
    data: st.DataObject,
    seed: int,
    x_type: DType,
    y_type: DType,
    shape: tuple[int, int, int],
    is_gate: bool,
    threads: int,
    count: int,
) -> None:
    random = np.random.default_rng(seed)
    channels, rows, columns = shape
    images = images_of(random, count, (2 * channels, rows, columns))
    x, y = operand(images, x_type, 0, channels), operand(images, y_type, channels, channels)
    if is_gate:
        y = y[:, :, :1, :1]
    epilogue = data.draw(epilogues(channels, x_type.magnitude * y_type.magnitude, random))
    bounds = data.draw(st.sampled_from([(255, 255), (x_type.magnitude, y_type.magnitude)]))
    for isa in ISAS:
        steps = Steps(isa, images.shape[1:], threads)
        first = steps.cut(x_type, 0, channels)
        second = steps.cut(y_type, channels, channels, gate=is_gate)
        output = multiply(steps, first, second, epilogue, bounds)
        assert_same(steps.run(output, images), epilogue.expected(x * y), (isa, epilogue))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("x_type", "y_type"), [(x, y) for x in ACTIVATIONS for y in ACTIVATIONS])
def test_every_product_of_two_types(isa: str, x_type: DType, y_type: DType) -> None:
    """All of them (of 8-bit types every third), as they are and requantized with ties and clips."""
    xs, ys = (np.arange(kind.minimum, kind.maximum + 1) for kind in (x_type, y_type))
    xs, ys = (np.unique(np.append(v[:: 3 if len(v) > 128 else 1], v[-1])) for v in (xs, ys))
    offset = np.array([128 if kind.is_signed else 0 for kind in (x_type, y_type)])
    pairs = np.array([(x, y) for x in xs for y in ys]) + offset
    size = -(-len(pairs) // 32)
    padded = np.resize(pairs, (size * 32, 2)).astype(np.uint8)
    images = np.concatenate([padded[:, i].reshape(32, size, 1) for i in range(2)])[None]
    x, y = operand(images, x_type, 0, 32), operand(images, y_type, 32, 32)
    for shift, factor in ((0, 1), (1, 1), (7, 1), (8, 3), (14, 77), (31, 2**24 + 1), (31, 2**31 + 12345)):
        for target in (DType.U8, DType.S8, DType.S4):
            epilogue = Epilogue(None, np.full(32, factor), shift, target, output=target)
            for bounds in ((255, 255), (x_type.magnitude, y_type.magnitude)):
                steps = Steps(isa, images.shape[1:])
                output = multiply(steps, steps.cut(x_type, 0, 32), steps.cut(y_type, 32, 32), epilogue, bounds)
                assert_same(steps.run(output, images), epilogue.expected(x * y), (isa, shift, factor, target))
    steps = Steps(isa, images.shape[1:])
    output = multiply(steps, steps.cut(x_type, 0, 32), steps.cut(y_type, 32, 32), Epilogue())
    assert_same(steps.run(output, images), (x * y).astype(np.int32), isa)
    compared_kernel(isa, "mul")


@pytest.mark.parametrize("isa", ISAS)
def test_a_square_of_the_networks_input(isa: str) -> None:
    """Both operands are one value, and have no padding channels."""
    images = images_of(np.random.default_rng(2), 4, (3, 5, 7))
    steps = Steps(isa, (3, 5, 7))
    output = multiply(steps, steps.input, steps.input, Epilogue())
    assert_same(steps.run(output, images), images.astype(np.int32) ** 2, isa)


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "scalar"])
def test_lists_of_a_product(isa: str) -> None:
    """A convolution reads them: they are built of what the table wrote."""
    channels, size = 33, (4, 5)
    random = np.random.default_rng(3)
    images = images_of(random, 4, (2 * channels, *size))
    table = table_of(random, DType.S8, DType.U4)
    epilogue = Epilogue(None, np.full(channels, 260), 16, DType.S8, table, DType.U4)
    steps = Steps(isa, images.shape[1:], threads=2)
    spec = _native.MulSpec()
    spec.input, spec.other = steps.cut(DType.S8, 0, channels), steps.cut(DType.U7, channels, channels, gate=True)
    spec.output = steps.value(DType.U4, (channels, *size))
    spec.output_lists = [steps.lists(spec.output, 2)]
    epilogue.set(spec)
    steps.program.add_mul(spec)
    reader = _native.ConvSpec()
    reader.input, reader.lists, reader.method, reader.magnitude = spec.output, spec.output_lists[0], "sparse", 15
    reader.output = steps.value(DType.S32, (channels, *size))
    steps.program.add_conv(reader, np.eye(channels, dtype=np.int8).reshape(channels, channels, 1, 1))
    x, y = operand(images, DType.S8, 0, channels), operand(images, DType.U7, channels, channels)[:, :, :1, :1]
    assert_same(steps.run(reader.output, images), epilogue.expected(x * y).astype(np.int32), isa)
