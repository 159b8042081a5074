"""Floating-point multipliers against integer requantization, at every step of the result and between."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from nybble.graph import DType, Quantize, Tensor
from nybble.graph.types import ACTIVATIONS, SUM_LIMIT, Array

pytest.importorskip("onnx")
from nybble.graph.onnx.multiplier import AWAY, into_sum, merged, requantizing


def _node(reads: DType, makes: DType, factors: list[int], shift: int) -> Quantize:
    factor = Tensor.from_array("u32", np.array(factors))
    return Quantize(name="q", inputs=("x",), input_type=reads, output_type=makes, factor=factor, shift=shift)


def _wanted(values: Array, factor: int, shift: int) -> Array:
    """Halves away from zero; Python's integers have no limit."""
    half = (1 << shift) >> 1
    return np.array([(abs(int(value)) * factor + half >> shift) * (-1 if value < 0 else 1) for value in values], object)


def _near_steps(factor: int, shift: int, top: int, random: np.random.Generator) -> Array:
    steps = [-(-((2 * k - 1) << shift) // (2 * max(1, factor))) for k in range(1, top + 1)]
    near = np.array([step + offset for step in steps for offset in (-2, -1, 0, 1)])
    values = np.concatenate([near, random.integers(0, SUM_LIMIT, 50), [0, SUM_LIMIT]])
    values = values[(values >= 0) & (values <= SUM_LIMIT)]
    return np.concatenate([values, -values])


FACTORS = st.one_of(
    st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 31).map(lambda bit: 1 << bit), st.integers(1, 16)
)


@given(
    makes=st.sampled_from(ACTIVATIONS),
    factors=st.lists(FACTORS, min_size=1, max_size=3),
    shift=st.integers(0, 31),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_step_lies_where_the_integers_put_it(makes: DType, factors: list[int], shift: int, seed: int) -> None:
    node = _node(DType.S32, makes, factors, shift)
    multipliers = requantizing(node, SUM_LIMIT)
    number = multipliers.dtype.type
    scales = merged(node, SUM_LIMIT)
    for channel, factor in enumerate(factors):
        values = _near_steps(factor, shift, makes.magnitude, np.random.default_rng(seed))
        wanted = np.clip(_wanted(values, factor, shift), makes.minimum, makes.maximum).astype(np.int64)
        found = np.clip(np.rint(values.astype(number) * multipliers[channel]), makes.minimum, makes.maximum)
        np.testing.assert_array_equal(found, wanted)
        if scales is not None:
            single, away = values.astype(np.float32), np.float32(AWAY)
            for product in (single * (scales[channel] / away), single * scales[channel] / away):
                np.testing.assert_array_equal(np.clip(np.rint(product), makes.minimum, makes.maximum), wanted)
        if factor:
            # An importer has to find the factor again.
            assert abs(float(multipliers[channel]) * 2.0**shift / factor - 1) <= 2.0**-21


@given(reads=st.sampled_from(ACTIVATIONS), factors=st.lists(FACTORS, min_size=1, max_size=3), shift=st.integers(0, 31))
def test_every_code_becomes_the_right_sum(reads: DType, factors: list[int], shift: int) -> None:
    # A valid graph's sums have 32 bits.
    factors = [min(factor, (SUM_LIMIT << shift) // reads.magnitude) for factor in factors]
    multipliers = into_sum(_node(reads, DType.S32, factors, shift), reads.magnitude, reads)
    codes = np.arange(reads.minimum, reads.maximum + 1)
    for factor, multiplier in zip(factors, multipliers, strict=True):
        found = np.rint(codes.astype(multipliers.dtype) * multiplier)
        np.testing.assert_array_equal(found.astype(np.int64), _wanted(codes, factor, shift).astype(np.int64))


@given(factor=FACTORS, shift=st.integers(0, 31), seed=st.integers(0, 2**32 - 1))
def test_a_sum_becomes_the_right_sum(factor: int, shift: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-(2**24), 2**24, 200)
    factor = min(factor, 2**26 - 1, (SUM_LIMIT << shift) >> 24)
    (multiplier,) = into_sum(_node(DType.S32, DType.S32, [factor], shift), 1 << 24, DType.S32)
    found = np.rint(values.astype(np.float64) * multiplier).astype(np.int64)
    np.testing.assert_array_equal(found, _wanted(values, factor, shift).astype(np.int64))


def test_short_shifts_leave_scales_as_they_are() -> None:
    """Then products of weights and codes are exact, and so are their sums in float32."""
    node = _node(DType.S32, DType.S8, [300, 5000, 40961], 16)
    scales = merged(node, SUM_LIMIT)
    assert scales is not None
    np.testing.assert_array_equal(scales, node.factor.numpy() / 2.0**16)
