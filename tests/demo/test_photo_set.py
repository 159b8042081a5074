"""The folder of labelled photos with which the documentation's commands are tried."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("skimage", reason="needs scikit-image: pip install 'nybble[demo]'")

from nybble.demo import samples
from nybble.demo.photo_set import main, write_photo_set
from nybble.images import open_photos


def test_photos_and_labels(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    assert main([str(folder), "--count", "7"]) == 0
    found = list(open_photos(folder))
    assert len(found) == 7 and all(isinstance(photo.label, int) for photo in found)
    assert len({photo.label for photo in found}) > 1


def test_a_seed_names_the_photos(tmp_path: Path) -> None:
    made = [write_photo_set(tmp_path / name, 3, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    first, second, other = ([(tmp_path / n / f).read_bytes() for f, _ in made[i]] for i, n in enumerate("abc"))
    assert first == second != other


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    assert main([str(tmp_path)]) == 3
    assert "not an empty folder; name another one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_labels_are_classes_that_are_right_for_the_photo(tmp_path: Path) -> None:
    right = {sample.file.partition(".")[0]: sample.classes for sample, _ in samples()}
    for name, label in write_photo_set(tmp_path / "photos", 5):
        assert label in right[name.rpartition("-")[0]]
