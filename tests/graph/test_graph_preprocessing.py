"""Preprocessing as data: its arithmetic against the published rule, its table, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from nybble.graph import DType, Graph, GraphError, Input, Preprocessing


def test_defaults_are_the_published_rule() -> None:
    samples = np.arange(256, dtype=np.uint8)
    photos = np.stack([samples, samples, samples], axis=-1)[None]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    exact = (photos / 255 - mean) / std * 127 / 2.64
    expected = np.clip(np.rint(exact), -127, 127).astype(np.int8)
    preprocessing = Preprocessing()
    made = preprocessing.quantize(preprocessing.normalise(photos))
    assert made.dtype == np.int8 and made.min() == -102 and made.max() == 127
    # Float32 and float64 may differ only within a hair of a half, where one channel has a sample.
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-4
    assert clear.sum() >= 3 * 256 - 2
    assert np.array_equal(made[clear], expected[clear])


@pytest.mark.parametrize("input_type", [DType.U4, DType.U7, DType.U8, DType.S4, DType.S8])
def test_table_equals_the_arithmetic(input_type: DType) -> None:
    preprocessing = Preprocessing(mean=(0.1, 0.5, 0.9), std=(0.3, 0.2, 0.1), input_type=input_type, scale_numerator=500)
    table = preprocessing.table()
    assert table.shape == (3, 256) and table.dtype == input_type.storage
    photos = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    expected = preprocessing.quantize(preprocessing.normalise(photos))
    looked_up = np.stack([table[channel][photos[..., channel]] for channel in range(3)], axis=-1)
    assert np.array_equal(looked_up, expected)
    low = -input_type.maximum if input_type.is_signed else 0
    assert (table.min(), table.max()) == (low, input_type.maximum)


def test_halves_round_to_even() -> None:
    preprocessing = Preprocessing(scale_numerator=1, scale_denominator=2)
    assert preprocessing.quantize(np.array([1, 3, 5, -1, -3], np.float32)).tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("resize", 0, "not a positive number"),
        ("scale_numerator", -1.0, "not a positive number"),
        ("scale_denominator", 0.0, "not a positive number"),
        ("scale_denominator", float("nan"), "not a positive number"),
        ("scale_numerator", float("inf"), "not a positive number"),
        ("crop", (257, 1), "not within the resized short side 256"),
        ("crop", (0, 1), "not within"),
        ("interpolation", "cubic", "unknown interpolation 'cubic'"),
        ("mean", (0.5, 0.5), "2 channels, but photos have 1 or 3"),
        ("mean", (0.5, float("nan"), 0.5), "not finite"),
        ("std", (0.5,), "1 values for 3 channels"),
        ("std", (0.5, 0.0, 0.5), "not positive"),
        ("input_type", DType.S32, "cannot be s32"),
    ],
)
def test_what_makes_no_sense_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        Preprocessing(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_graph_must_take_what_preprocessing_makes() -> None:
    image = Input(name="x", dtype=DType.S8, shape=(3, 224, 224))
    Graph([image], [], ["x"], preprocessing=Preprocessing())
    for other in (
        Preprocessing(input_type=DType.U8),
        Preprocessing(crop=(224, 223)),
        Preprocessing(mean=(0.5,), std=(1.0,)),
    ):
        with pytest.raises(GraphError, match="preprocessing makes") as caught:
            Graph([image], [], ["x"], preprocessing=other)
        assert caught.value.field == "preprocessing"
