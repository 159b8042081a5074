"""Histograms whose range grows: no count is lost, and order and workers do not matter."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nybble.quantize.calibrate.observers import HistogramObserver
from nybble.quantize.errors import QuantizeError

BINS = 16
#: Magnitudes far apart, zeros of both signs, the largest and smallest floats, subnormal ones.
VALUES = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**127, -(2.0**127), 0.5, 15.999, 16.0]),
)
BATCHES = st.lists(st.lists(VALUES, max_size=12), min_size=1, max_size=5)


def observe(batches: list[list[float]], *, signed: bool) -> HistogramObserver:
    observer = HistogramObserver("tensor", signed=signed, bins=BINS)
    for batch in batches:
        observer(torch.tensor(batch, dtype=torch.float32))
    return observer


def same(first: HistogramObserver, second: HistogramObserver) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return torch.equal(one.pop("counts"), two.pop("counts")) and one == two


def expected(values: list[float], observer: HistogramObserver) -> np.ndarray:
    """Counts straight from the definition, in exact arithmetic."""
    counts = np.zeros_like(observer.counts)
    for value in values:
        if value != 0 and (observer.signed or value > 0):
            place = math.ceil(abs(value) / observer.width) - 1
            counts[(BINS + place if value > 0 else BINS - 1 - place) if observer.signed else place] += 1
    return counts


@given(BATCHES, st.booleans())
def test_counts_are_those_of_the_definition(batches: list[list[float]], signed: bool) -> None:
    values = np.array([value for batch in batches for value in batch], dtype=np.float32).astype(float)
    observer = observe(batches, signed=signed)
    assert observer.total == len(values)
    assert observer.zeros == int((values == 0).sum())
    assert observer.negatives == (0 if signed else int((values < 0).sum()))
    np.testing.assert_array_equal(observer.counts, expected(values.tolist(), observer))
    if len(values):
        assert (observer.minimum, observer.maximum) == (values.min(), values.max())
    # No wider than needed: half as wide would not hold the largest value.
    largest = max([abs(v) for v in values] if signed else [v for v in values if v > 0], default=0.0)
    if largest:
        assert largest <= BINS * observer.width
        assert largest > BINS * observer.width / 2 or observer.width == 2.0**-120


@given(BATCHES, st.booleans(), st.randoms())
def test_order_and_workers_do_not_matter(batches: list[list[float]], signed: bool, random: object) -> None:
    whole = observe([[value for batch in batches for value in batch]], signed=signed)
    workers = [observe([batch], signed=signed) for batch in batches]
    random.shuffle(workers)  # type: ignore[attr-defined]
    merged = HistogramObserver("tensor", signed=signed, bins=BINS)
    for worker in workers:
        before = worker.state_dict()
        merged.merge(worker)
        assert torch.equal(worker.state_dict()["counts"], before["counts"])
    assert same(merged, whole)
    assert same(observe(batches[::-1], signed=signed), whole)


@pytest.mark.parametrize("signed", [False, True])
def test_growth_keeps_every_count(signed: bool) -> None:
    observer = HistogramObserver("tensor", signed=signed, bins=BINS)
    small = torch.linspace(-1, 1, 1001)
    observer(small)
    observer(torch.tensor([1e30]))
    assert observer.total == 1002
    assert observer.counts.sum() + observer.zeros + observer.negatives == 1002
    assert observer.magnitude == pytest.approx(1e30)


def test_a_large_tensor_is_counted_in_integers() -> None:
    # More equal values than a float32 count could hold.
    observer = HistogramObserver("tensor", signed=False, bins=BINS)
    values = torch.full((1 << 20,), 0.75)
    for _ in range(20):
        observer(values)
    assert observer.counts[12 * BINS // 16 - 1] == 20 << 20
    assert observer.counts.dtype == np.int64


def test_memory_formats_and_types() -> None:
    values = torch.randn(2, 3, 5, 7)
    plain = HistogramObserver("tensor", signed=True, bins=BINS)
    plain(values)
    for other in (
        values.contiguous(memory_format=torch.channels_last),
        values.transpose(1, 3),
        values.flatten(),
        values.double(),
    ):
        observer = HistogramObserver("tensor", signed=True, bins=BINS)
        observer(other)
        assert same(observer, plain)
    half = HistogramObserver("tensor", signed=True, bins=BINS)
    half(values.half())
    assert half.total == values.numel()


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_values_that_are_not_finite_are_refused(value: float, word: str) -> None:
    observer = observe([[1.0, 2.0]], signed=True)
    before = observer.state_dict()
    with pytest.raises(QuantizeError, match=rf"^tensor: a value is {word}"):
        observer(torch.tensor([3.0, value, 0.0]))
    assert torch.equal(observer.state_dict()["counts"], before["counts"])
    assert observer.total == 2


def test_state_is_plain_data() -> None:
    observer = observe([[1.0, -2.5, 0.0]], signed=True)
    file = io.BytesIO()
    torch.save(observer.state_dict(), file)
    file.seek(0)
    twin = HistogramObserver("tensor", signed=True, bins=BINS)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert same(observer, twin)
    twin(torch.tensor([100.0]))
    assert not same(observer, twin)
    with pytest.raises(QuantizeError, match="bins"):
        HistogramObserver("tensor", signed=True, bins=32).load_state_dict(observer.state_dict())


def test_what_cannot_be_merged() -> None:
    observer = observe([[1.0]], signed=True)
    with pytest.raises(QuantizeError, match="signed"):
        observer.merge(observe([[1.0]], signed=False))
    with pytest.raises(QuantizeError, match="power of two"):
        HistogramObserver("tensor", signed=True, bins=100)
