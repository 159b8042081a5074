"""The photos that come with nybble: what they are, and where they came from."""

from __future__ import annotations

from pathlib import Path

import pytest

from nybble.demo.photos import fingerprint
from nybble.examples import example_photos
from nybble.images import decode_photo

ROOT = Path(__file__).resolve().parents[1]


def test_they_are_what_the_documents_say() -> None:
    assert [(path.name, decode_photo(path).size) for path in example_photos()] == [
        ("chelsea.png", (451, 300)),
        ("coffee.png", (600, 400)),
    ]
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert all(path.name in notice for path in example_photos())


def test_they_are_those_of_scikit_image() -> None:
    skimage = pytest.importorskip("skimage")
    for path in example_photos():
        assert fingerprint(path) == fingerprint(Path(skimage.__file__).parent / "data" / path.name)
