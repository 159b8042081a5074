"""Bilinear interpolation: the engine against the reference, and the reference against the definition."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import hypothesis.strategies as st
import numpy as np
import pytest
from agreement import ISAS, assert_agrees
from hypothesis import given

from nybble import _native
from nybble.graph import DType, Graph, Input, Pair, ResizeBilinear
from nybble.graph.ops.resize_bilinear import GRIDS, taps
from nybble.graph.types import ACTIVATIONS
from nybble.reference import interpret

EXTENTS = st.integers(1, 9)
SIZES = st.integers(1, 21)


def network(dtype: DType, shape: tuple[int, int, int], size: tuple[int, int], grid: str) -> Graph:
    node = ResizeBilinear(name="resize", inputs=("x",), input_type=dtype, size=Pair(*size), grid=grid)
    return Graph([Input(name="x", dtype=dtype, shape=shape)], [node], ["resize"])


def coordinate(grid: str, place: int, extent: int, size: int) -> Fraction:
    """As ONNX defines it."""
    if grid == "half_pixel":
        found = (Fraction(2 * place + 1, 2)) * Fraction(extent, size) - Fraction(1, 2)
    elif grid == "asymmetric":
        found = place * Fraction(extent, size)
    else:
        found = Fraction(place * (extent - 1), size - 1) if size > 1 else Fraction(0)
    return min(max(found, Fraction(0)), Fraction(extent - 1))


@given(
    st.sampled_from(ACTIVATIONS),
    st.tuples(st.sampled_from([1, 3, 33]), EXTENTS, EXTENTS),
    st.tuples(SIZES, SIZES),
    st.sampled_from(GRIDS),
    st.integers(0, 2**32 - 1),
)
def test_it_equals_the_reference(
    dtype: DType, shape: tuple[int, int, int], size: tuple[int, int], grid: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(dtype.minimum, dtype.maximum, (2, *shape), endpoint=True)
    images[1] = np.where(random.random(shape) < 0.5, dtype.minimum, dtype.maximum)
    assert_agrees(network(dtype, shape, size, grid), images.astype(dtype.storage), isas=ISAS[:1])


@given(EXTENTS, EXTENTS, SIZES, SIZES, st.sampled_from(GRIDS), st.integers(0, 2**32 - 1))
def test_the_reference_is_the_definition(rows: int, columns: int, high: int, wide: int, grid: str, seed: int) -> None:
    image = np.random.default_rng(seed).integers(-128, 127, (1, 1, rows, columns), endpoint=True).astype(np.int8)
    found = interpret(network(DType.S8, (1, rows, columns), (high, wide), grid), image)["resize"][0, 0]
    for y in range(high):
        for x in range(wide):
            at = coordinate(grid, y, rows, high), coordinate(grid, x, columns, wide)
            value = Fraction(0)
            for row in range(rows):
                for column in range(columns):
                    part = max(Fraction(0), 1 - abs(at[0] - row)) * max(Fraction(0), 1 - abs(at[1] - column))
                    value += part * int(image[0, 0, row, column])
            assert found[y, x] == floor(value + Fraction(1, 2))


@given(st.sampled_from(GRIDS), st.integers(1, 70), st.integers(1, 70))
def test_taps_are_in_lowest_terms(grid: str, extent: int, size: int) -> None:
    found = taps(grid, extent, size)
    for place in range(size):
        at = found.low[place] + Fraction(found.weight[place], found.divisor)
        assert at == coordinate(grid, place, extent, size)
    assert np.gcd.reduce([found.divisor, *found.weight]) == 1 or found.divisor == 1
    assert max(found.high) < extent


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"low": [0, 2]}, "outside"),
        ({"high": [0, -1]}, "outside"),
        ({"weight": [0, 3]}, "weight out of range"),
        ({"divisor": 0}, "divisor out of range"),
        ({"low": [0]}, "two indices"),
    ],
)
def test_native_code_refuses_what_does_not_fit(change: dict[str, object], words: str) -> None:
    program = _native.Program(ISAS[0], 1, 1, 4096)
    source = program.add_value("s8", 3, 2, 2, True, 0)
    result = program.add_value("s8", 3, 2, 2, False, 1024)
    program.set_input(source)
    spec = _native.BilinearSpec()
    spec.input, spec.output = source, result
    for name in ("rows", "columns"):
        axis = _native.BilinearAxis()
        axis.low, axis.high, axis.weight, axis.divisor = [0, 0], [0, 1], [0, 1], 2
        if name == "rows":
            for key, value in change.items():
                setattr(axis, key, value)
        setattr(spec, name, axis)
    with pytest.raises(ValueError, match=words):
        program.add_bilinear(spec)
