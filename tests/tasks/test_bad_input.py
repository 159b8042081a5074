"""What users give by mistake: heads that nothing decodes, photos of one pixel or 20,000 columns, wrong masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nybble.cli import app
from nybble.engine import Engine
from nybble.graph import GraphError, Preprocessing
from nybble.tasks import Restored, Segmentation
from nybble.tasks.video import frames
from tiny_tasks import CHANNELS, CODES, COLUMNS, ROWS, network, picture, write_network

FITS = ("stretch", "letterbox", "crop")
WIDE = (20_000, 3)


def called(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments), "--threads", "1"])


def test_heads_that_nothing_decodes_are_returned_by_name() -> None:
    with Engine(network("none"), 1) as engine:
        found = engine.run(np.zeros((1, ROWS, COLUMNS, 3), np.uint8))
        assert list(found) == [*CHANNELS, CODES]
        with pytest.raises(GraphError, match="has no file `task`") as caught:
            engine.predict(picture())
    assert "\n" not in str(caught.value)


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.png")
    done = called("predict", write_network(tmp_path / "model", "none"), tmp_path / "photo.png")
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert "has no file `task`" in " ".join(done.output.split())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("kind", ["detect", "segment", "restore", "embed"])
@pytest.mark.parametrize("size", [(1, 1), WIDE, (3, 5000)])
def test_photos_of_extreme_sizes(kind: str, fit: str, size: tuple[int, int]) -> None:
    graph = network(kind, Preprocessing(resize=40, crop=(ROWS, COLUMNS), fit=fit))
    with Engine(graph, 1) as engine:
        found = engine.predict(picture(size=size))
    assert found.to_json()
    if isinstance(found, Segmentation):
        assert found.labels.shape == (size[1], size[0])


@pytest.mark.parametrize("size", [(1, 1), WIDE, (31, 1)])
def test_restoring_keeps_extreme_sizes(size: tuple[int, int]) -> None:
    graph = network("restore", Preprocessing(crop=(ROWS, COLUMNS), fit="none"))
    with Engine(graph, 1) as engine:
        found = engine.predict(picture(size=size))
    assert isinstance(found, Restored) and found.image().size == size


def test_a_photo_too_large_once_resized_is_one_line(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 1)).save(tmp_path / "wide.png")
    preprocessing = Preprocessing(resize=300, crop=(ROWS, COLUMNS), fit="crop")
    done = called("predict", write_network(tmp_path / "model", "segment", preprocessing), tmp_path / "wide.png")
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert "would have" in " ".join(done.output.split())


@pytest.mark.parametrize("size", [(COLUMNS, ROWS), (1, 1)])
def test_a_mask_of_another_size_names_its_file(tmp_path: Path, size: tuple[int, int]) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    picture().save(tmp_path / "set" / "images" / "a.png")
    Image.new("L", size).save(tmp_path / "set" / "masks" / "a.png")
    model = write_network(tmp_path / "model", "segment")
    done = called("evaluate", model, "--images", tmp_path / "set")
    text = " ".join(done.output.split())
    assert done.exit_code != 0 and "Traceback" not in text and "a.png: has" in text


def test_a_video_that_breaks_off_keeps_the_frames_before(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "video.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture(number, (64, 48))), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = path.read_bytes()
    assert len(list(frames(path))) == 20
    path.write_bytes(whole[: len(whole) // 2])
    done = called("predict", write_network(tmp_path / "model", "detect"), path)
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert "video.avi" in done.output
