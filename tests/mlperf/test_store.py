from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nybble.graph import Preprocessing
from nybble.images import ImageError, LabelledFolder, load_photo
from nybble.mlperf import store
from nybble.mlperf.store import form_of, open_store

PREPROCESSING = Preprocessing(resize=36, crop=(32, 32))


def test_photos_are_those_of_load_photo_and_made_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = LabelledFolder(photos)
    seen: list[tuple[str, int, int | None]] = []
    _, samples = open_store(folder, form_of(PREPROCESSING), tmp_path, lambda *at: seen.append(at))
    assert samples.shape == (len(folder), 32, 32, 3)
    assert seen[-1] == ("preparing photos", len(folder), len(folder))
    for photo, sample in zip(folder, samples, strict=True):
        np.testing.assert_array_equal(sample, load_photo(photo.path, PREPROCESSING, exif=False))

    monkeypatch.setattr(store, "load_photo", lambda *_, **__: pytest.fail("decoded again"))
    _, again = open_store(folder, form_of(PREPROCESSING), tmp_path)
    np.testing.assert_array_equal(again, samples)
    with pytest.raises(ValueError, match="read-only"):
        again[0, 0, 0, 0] = 1


def test_what_is_damaged_or_missing_is_made_again(photos: Path, tmp_path: Path) -> None:
    folder = LabelledFolder(photos)
    path, samples = open_store(folder, form_of(PREPROCESSING), tmp_path)
    right = samples.copy()
    del samples
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
        file.truncate(size - 4000)  # As if the disk had lost the end.
    made = []
    original = store.load_photo
    try:
        store.load_photo = lambda source, how, **options: (
            made.append(Path(source).name) or original(source, how, **options)
        )  # type: ignore[func-returns-value]
        _, samples = open_store(folder, form_of(PREPROCESSING), tmp_path)
    finally:
        store.load_photo = original
    np.testing.assert_array_equal(samples, right)
    assert sorted(made) == [folder[1].file, folder[10].file, folder[11].file]


def test_other_photos_or_preprocessing_have_a_store_of_their_own(photos: Path, tmp_path: Path) -> None:
    folder = LabelledFolder(photos)
    paths = {
        open_store(folder, form_of(PREPROCESSING), tmp_path)[0],
        open_store(folder[:5], form_of(PREPROCESSING), tmp_path)[0],
        open_store(folder, form_of(Preprocessing(resize=40, crop=(32, 32))), tmp_path)[0],
    }
    assert len(paths) == 3
    os.utime(folder[0].path, (1, 1))
    assert open_store(folder, form_of(PREPROCESSING), tmp_path)[0] not in paths


def test_a_photo_that_cannot_be_decoded_is_named_and_the_others_stay(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in photos.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    folder = LabelledFolder(copy)
    good = folder[4].path.read_bytes()
    folder[4].path.write_bytes(b"no photo")
    with pytest.raises(ImageError, match=folder[4].file):
        open_store(folder, form_of(PREPROCESSING), tmp_path / "cache")
    folder[4].path.write_bytes(good)
    _, samples = open_store(folder, form_of(PREPROCESSING), tmp_path / "cache")
    np.testing.assert_array_equal(samples[4], load_photo(folder[4].path, PREPROCESSING, exif=False))
