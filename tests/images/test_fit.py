"""Every way in which a photo is brought to the size of an input, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nybble.graph import Preprocessing
from nybble.images import Fit, ImageError, fit_photo, load_photo

FITS = [
    {"fit": "stretch"},
    {"fit": "letterbox"},
    {"fit": "letterbox", "placement": "centre", "fill": 7},
    {"fit": "crop", "resize": 40},
]


def photo(rows: int, columns: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(rows).integers(0, 256, (rows, columns, 3), dtype=np.uint8))


@pytest.mark.parametrize("options", FITS, ids=str)
@given(rows=st.integers(1, 90), columns=st.integers(1, 90))
def test_points_go_there_and_back(options: dict[str, object], rows: int, columns: int) -> None:
    fit = Fit.of(columns, rows, Preprocessing(crop=(24, 32), **options))  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    points = random.uniform(0, (columns, rows), (20, 2)).astype(np.float32)
    np.testing.assert_allclose(fit.points_to_photo(fit.points_to_input(points)), points, atol=1e-3)
    boxes = np.concatenate([points, points + 1], axis=1)
    boxes = np.minimum(boxes, (columns, rows, columns, rows))
    np.testing.assert_allclose(fit.boxes_to_photo(fit.boxes_to_input(boxes)), boxes, atol=1e-3)


@pytest.mark.parametrize("options", FITS, ids=str)
@given(rows=st.integers(1, 90), columns=st.integers(1, 90))
def test_a_map_shows_each_pixel_of_the_photo_where_it_lies(options: dict[str, object], rows: int, columns: int) -> None:
    fit = Fit.of(columns, rows, Preprocessing(crop=(24, 32), **options))  # type: ignore[arg-type]
    # Each pixel of the map is its own number.
    numbers = np.arange(24 * 32).reshape(24, 32)
    found = fit.map_to_photo(numbers, -1)
    assert found.shape == (rows, columns)
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        x = (column + 0.5) * fit.resized[1] / columns + fit.left
        y = (row + 0.5) * fit.resized[0] / rows + fit.top
        inside = 0 <= x < 32 and 0 <= y < 24
        assert found[row, column] == (numbers[int(y), int(x)] if inside else -1)


def test_stretching_is_pillows_resize() -> None:
    given = photo(31, 57)
    made = load_photo(np.asarray(given), Preprocessing(crop=(24, 32), fit="stretch", interpolation="bicubic"))
    assert np.array_equal(made, np.asarray(given.resize((32, 24), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize(("placement", "top", "left"), [("corner", 0, 0), ("centre", 4, 0)])
def test_a_letterbox_has_its_border_where_it_says(placement: str, top: int, left: int) -> None:
    given = photo(30, 64)
    made, fit = fit_photo(given, Preprocessing(crop=(24, 32), fit="letterbox", placement=placement, fill=9))
    inner = np.asarray(given.resize((32, 15), Image.Resampling.BILINEAR))
    expected = np.full((24, 32, 3), 9, dtype=np.uint8)
    expected[top : top + 15, left : left + 32] = inner
    assert np.array_equal(made, expected)
    assert (fit.resized, fit.top, fit.left) == ((15, 32), top, left)


def test_a_letterbox_keeps_a_pixel_of_the_longest_photo() -> None:
    made, fit = fit_photo(photo(1, 20_000), Preprocessing(crop=(24, 32), fit="letterbox"))
    assert made.shape == (24, 32, 3) and fit.resized == (1, 32)
    made, _ = fit_photo(photo(1, 1), Preprocessing(crop=(24, 32), fit="letterbox"))
    assert made.shape == (24, 32, 3)


def test_without_a_fit_the_photo_must_have_the_size() -> None:
    preprocessing = Preprocessing(crop=(24, 32), fit="none")
    assert np.array_equal(load_photo(np.asarray(photo(24, 32)), preprocessing), np.asarray(photo(24, 32)))
    with pytest.raises(ImageError, match="has 24x32 pixels, but the model takes 32x24 only"):
        load_photo(np.asarray(photo(32, 24)), preprocessing)


@pytest.mark.parametrize("options", FITS, ids=str)
def test_bgr_is_rgb_the_other_way_round(options: dict[str, object]) -> None:
    samples = np.asarray(photo(50, 60))
    rgb = load_photo(samples, Preprocessing(crop=(24, 32), **options))  # type: ignore[arg-type]
    bgr = load_photo(samples, Preprocessing(crop=(24, 32), channel_order="BGR", **options))  # type: ignore[arg-type]
    assert np.array_equal(rgb, bgr[..., ::-1]) and bgr.flags.c_contiguous


def test_gray_letterboxes() -> None:
    made, _ = fit_photo(photo(30, 64), Preprocessing(crop=(24, 32), fit="letterbox", mean=(0.5,), std=(1.0,)))
    assert made.shape == (24, 32, 1) and (made[15:] == 114).all()
