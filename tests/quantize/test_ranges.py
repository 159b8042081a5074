"""Ranges from histograms against what the values themselves give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nybble.graph import DType
from nybble.quantize.calibrate.observers import HistogramObserver
from nybble.quantize.calibrate.ranges import (
    activation_range,
    entropy_range,
    minmax_range,
    mse_range,
    percentile_range,
    weight_range,
)
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import CalibrationConfig


def observed(values: np.ndarray, *, signed: bool, bins: int = 8192) -> HistogramObserver:
    observer = HistogramObserver("tensor", signed=signed, bins=bins)
    observer(torch.from_numpy(values.astype(np.float32)))
    return observer


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "exponential", "relu", "uniform"]),
    st.sampled_from([90.0, 99.0, 99.9, 99.99, 99.999, 100.0]),
)
def test_percentile_is_the_exact_quantile_to_a_bin(seed: int, kind: str, percentile: float) -> None:
    random = np.random.default_rng(seed)
    values = {
        "normal": random.normal,
        "exponential": random.exponential,
        "relu": lambda size: np.maximum(0, random.normal(size=size)),
        "uniform": lambda size: random.uniform(0, 5, size),
    }[kind](size=5000).astype(np.float32)
    signed = kind == "normal"
    observer = observed(values, signed=signed, bins=2048)
    # The smallest magnitude that at least so many values do not pass.
    exact = np.quantile(np.abs(values), percentile / 100, method="inverted_cdf")
    found = percentile_range(observer, percentile)
    assert abs(found - exact) <= observer.width
    assert found <= observer.magnitude
    # And by its meaning: so many values lie within it, give or take those of its bin.
    assert (np.abs(values) <= found + observer.width).mean() >= percentile / 100


def test_percentile_counts_zeros() -> None:
    values = np.concatenate([np.zeros(90), np.linspace(1, 10, 10)])
    observer = observed(values, signed=False)
    assert percentile_range(observer, 95) == pytest.approx(5, abs=2 * observer.width)
    # Zero itself would be the quantile; a range has to have a value in it.
    assert percentile_range(observer, 80) == pytest.approx(1, abs=2 * observer.width)


def test_minmax() -> None:
    assert minmax_range(observed(np.array([-3.0, 1.0]), signed=True)) == 3
    assert minmax_range(observed(np.array([-3.0, 1.0]), signed=False)) == 1


@pytest.mark.parametrize("dtype", [DType.U4, DType.S4, DType.U7, DType.S8])
def test_mse_is_the_best_of_its_clips(dtype: DType) -> None:
    random = np.random.default_rng(3)
    values = random.laplace(size=20_000).astype(np.float32)
    if not dtype.is_signed:
        values = np.maximum(values, 0)
    observer = observed(values, signed=dtype.is_signed)
    found = mse_range(observer, dtype)

    def error(clip: float) -> float:
        step = clip / dtype.maximum
        return float(((np.clip(np.rint(values / step), dtype.minimum, dtype.maximum) * step - values) ** 2).mean())

    clips = observer.magnitude * np.arange(1, 257) / 256
    assert error(found) <= min(map(error, clips)) * 1.001
    # Few levels are worth more in the middle than at the rare extremes.
    assert error(found) < 0.7 * error(observer.magnitude) or dtype in (DType.U7, DType.S8)


@pytest.mark.parametrize("dtype", [DType.U4, DType.U7, DType.S8])
def test_entropy_cuts_off_outliers_but_not_a_body(dtype: DType) -> None:
    random = np.random.default_rng(4)
    body = np.abs(random.normal(size=200_000))
    outlier = observed(np.concatenate([body, [40.0]]), signed=dtype.is_signed)
    assert 1.5 < entropy_range(outlier, dtype) < 10
    flat = observed(random.uniform(0, 1, 200_000), signed=dtype.is_signed)
    assert entropy_range(flat, dtype) > 0.9


def test_a_tensor_of_zeros_and_one_never_reached() -> None:
    for method in ("percentile", "minmax", "mse", "entropy"):
        config = CalibrationConfig(method=method)
        assert activation_range(observed(np.zeros(5), signed=False), DType.U4, config) == 1.0
        for values in ([2.0], [0.0, 0.0, 1e-30], [-1.0, -2.0, 3.0]):
            assert 0 < activation_range(observed(np.array(values), signed=True), DType.S8, config) <= 3
        with pytest.raises(QuantizeError, match="nothing was observed"):
            activation_range(HistogramObserver("tensor", signed=False), DType.U4, config)


def test_weight_ranges() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 8, 3, 3, generator=random)
    weight[0] = 0
    largest = weight_range(weight, 4)
    torch.testing.assert_close(largest, weight.abs().amax(dim=(1, 2, 3)))

    def error(ranges: torch.Tensor) -> torch.Tensor:
        step = (ranges / 7).clamp_min(1e-9)[:, None, None, None]
        return ((weight / step).round().clamp(-7, 7) * step - weight).square().sum(dim=(1, 2, 3))

    best = weight_range(weight, 4, "mse")
    assert (error(best) <= error(largest)).all()
    assert (error(best)[1:] < error(largest)[1:]).all()
    for share in np.linspace(0.2, 1, 81):
        assert (error(best) <= error(largest * float(share)) * (1 + 1e-4) + 1e-9).all()
    weight[3, 0, 0, 0] = torch.nan
    with pytest.raises(QuantizeError, match="output channel 3"):
        weight_range(weight, 4)


def test_weights_that_were_quantized_before_find_their_codes_again() -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(-7, 8, (64, 32), generator=random)
    # No channel uses all codes: the largest are 1 to 6.
    codes = codes.minimum(torch.arange(64)[:, None] % 6 + 1).maximum(-(torch.arange(64)[:, None] % 6 + 1))
    weight = codes * torch.rand(64, 1, generator=random)
    step = weight_range(weight, 4, "mse")[:, None] / 7
    torch.testing.assert_close((weight / step).round().clamp(-7, 7) * step, weight)
