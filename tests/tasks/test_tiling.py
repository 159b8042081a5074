"""Tiles that overlap: what a network of limited sight makes of them is what it makes of the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nybble.tasks.tiling import run_tiled, tiles


@given(size=st.integers(1, 40), more=st.integers(0, 90), overlap=st.integers(0, 19))
def test_tiles_cover_and_keep_away_from_edges(size: int, more: int, overlap: int) -> None:
    extent = size + more
    if more and size <= 2 * overlap:
        with pytest.raises(ValueError, match="cannot overlap"):
            tiles(extent, size, overlap)
        return
    found = tiles(extent, size, overlap)
    assert [tile.first for tile in found] == [0, *(tile.last for tile in found[:-1])] and found[-1].last == extent
    for tile in found:
        assert 0 <= tile.start <= extent - size
        assert tile.first == 0 or tile.first - tile.start >= overlap
        assert tile.last == extent or tile.start + size - tile.last >= overlap


def blurred(samples: np.ndarray, factor: int) -> np.ndarray:
    """Sums of 5 x 5 pixels, zeros beyond the edges; each pixel repeated."""
    rows, columns, _ = samples.shape
    padded = np.pad(samples.astype(np.int64), ((2, 2), (2, 2), (0, 0)))
    sums = sum(padded[y : y + rows, x : x + columns] for y in range(5) for x in range(5))
    return np.asarray(sums).transpose(2, 0, 1).repeat(factor, axis=1).repeat(factor, axis=2)


@given(rows=st.integers(12, 60), columns=st.integers(16, 60), factor=st.integers(1, 3), overlap=st.integers(2, 5))
def test_tiled_is_whole(rows: int, columns: int, factor: int, overlap: int) -> None:
    samples = np.random.default_rng(rows).integers(0, 256, (rows, columns, 3))
    made = run_tiled(lambda tile: blurred(tile, factor), samples, (12, 16), overlap)
    assert np.array_equal(made, blurred(samples, factor))


def test_smaller_images_keep_their_size() -> None:
    made = run_tiled(lambda tile: tile.transpose(2, 0, 1), np.ones((1, 3, 1)), (12, 16), 4)
    assert made.shape == (1, 1, 3) and (made == 1).all()
    with pytest.raises(ValueError, match="not a multiple"):
        run_tiled(lambda tile: tile.transpose(2, 0, 1)[:, :-1], np.ones((20, 20, 1)), (12, 16), 4)
