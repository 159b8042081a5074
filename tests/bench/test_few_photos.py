"""``nybble bench`` says where its photos are too few."""

from __future__ import annotations

import pytest

from nybble.cli.bench import _few_photos


@pytest.mark.parametrize(
    ("photos", "count", "top1", "warning"),
    [
        (
            "40 photos of images",
            40,
            0.9,
            "only 40 photos: speed depends on them, and each answer is 2.5 points",
        ),
        ("1 photos of images", 1, None, "only 1 photo: speed depends on them; 100 are enough"),
        ("100 photos of images", 100, 0.9, None),
        ("9 SYNTHETIC photos (blocks of noise)", 9, None, None),
    ],
)
def test_few_photos(photos: str, count: int, top1: float | None, warning: str | None) -> None:
    found = _few_photos({"photos": photos, "photo_count": count, "runs": [{"top1": None}, {"top1": top1}]})
    assert found == warning or (warning and found and found.startswith(warning))
