"""Boxes of text, and frames of videos: both need packages of extras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nybble.graph import Text
from nybble.images import Fit, ImageError
from nybble.tasks import MissingPackageError, decode_text, frames
from nybble.tasks.metrics import TextMetric
from nybble.tasks.packages import needed

FIT = Fit((60, 100), (60, 100), 0, 0, (60, 100))


def test_text_boxes_are_found_and_grown() -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("pyclipper")
    likely = np.zeros((1, 60, 100), np.float32)
    likely[0, 10:20, 20:60] = 0.9  # The shrunk region of a line of text.
    likely[0, 40:50, 5:35] = 0.7
    likely[0, 30:32, 80:82] = 1.0  # Too small.
    likely[0, 50:58, 60:90] = 0.4  # Not sure enough.
    found = decode_text(Text("x"), likely, Fit((120, 200), (60, 100), 0, 0, (60, 100)))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    # The distance is area * 1.5 / perimeter of the rectangle between pixel centres, 9 by 39: 5.48.
    grown = 351 * 1.5 / 96
    expected = 2 * np.array([[20 - grown, 10 - grown], [59 + grown, 10 - grown], [59 + grown, 19 + grown]])
    np.testing.assert_allclose(found.polygons[0, :3], expected, atol=2)
    metric = TextMetric()
    metric.add(found.polygons, found.polygons[::-1])
    assert metric.value() == 1
    assert len(decode_text(Text("x"), np.zeros((60, 100), np.float32), Fit((6, 10), (60, 100), 0, 0, (60, 100)))) == 0
    assert len(decode_text(Text("x", function="sigmoid"), likely * 20 - 9, FIT)) == 2


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(MissingPackageError, match=r"not_there is not installed.*pip install 'nybble\[video\]'"):
        needed("not_there", "video")


def video(path: Path, count: int) -> list[np.ndarray]:
    """A lossless video of noise; returns its frames."""
    av = pytest.importorskip("av")
    made = [np.random.default_rng(i).integers(0, 256, (32, 48, 3), dtype=np.uint8) for i in range(count)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for samples in made:
            frame = av.VideoFrame.from_ndarray(samples, format="rgb24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return made


def test_frames_come_one_by_one(tmp_path: Path) -> None:
    made = video(tmp_path / "v.mkv", 5)
    found = list(frames(tmp_path / "v.mkv"))
    assert [frame.number for frame in found] == list(range(5))
    assert all(np.array_equal(frame.samples, samples) for frame, samples in zip(found, made, strict=True))
    assert found[2].seconds == pytest.approx(2 / 25, abs=0.002)


def test_videos_that_cannot_be_decoded(tmp_path: Path) -> None:
    video(tmp_path / "v.avi", 20)
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(ImageError, match=r"no\.mp4: cannot be decoded"):
        list(frames(tmp_path / "no.mp4"))
    with pytest.raises(ImageError, match="cannot be decoded"):
        list(frames(tmp_path / "missing.mp4"))
    whole = (tmp_path / "v.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    seen: list[int] = []
    with pytest.raises(ImageError, match=r"half\.avi: (breaks off|cannot be decoded) after \d+ "):
        seen.extend(frame.number for frame in frames(tmp_path / "half.avi"))
    assert 0 < len(seen) < 20
