"""``nybble predict`` and ``evaluate`` on networks of small tasks, run by the interpreter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nybble.cli.exit_codes import ExitCode
from nybble.graph import (
    DType,
    Graph,
    Input,
    MaxPool2d,
    Pair,
    Preprocessing,
    Restore,
    Segment,
    Task,
    write_graph,
)

NAMES = ["red", "green", "blue"]


def segmenter(folder: Path, task: Task | None) -> Path:
    """A network whose scores of three classes are the colours of the photo."""
    entry = Input(name="x", dtype=DType.S8, shape=(3, 24, 32))
    pool = MaxPool2d(name="y", inputs=("x",), input_type=DType.S8, kernel_size=Pair(1, 1), stride=Pair(1, 1))
    preprocessing = Preprocessing(
        crop=(24, 32), fit="stretch", mean=(0.0,) * 3, std=(1.0,) * 3, scale_numerator=127, scale_denominator=1
    )
    names = NAMES if isinstance(task, Segment) else None
    write_graph(Graph([entry], [pool], ["y"], preprocessing=preprocessing, task=task, class_names=names), folder)
    return folder


def stripes(path: Path) -> Path:
    samples = np.zeros((48, 64, 3), dtype=np.uint8)
    samples[:, :32, 0] = samples[:, 32:, 2] = 255
    Image.fromarray(samples).save(path)
    return path


def test_predict_draws_and_prints(run: Any, tmp_path: Path) -> None:
    model = segmenter(tmp_path / "m", Segment("y"))
    (tmp_path / "photos" / "inner").mkdir(parents=True)
    stripes(tmp_path / "photos" / "a.png")
    stripes(tmp_path / "photos" / "inner" / "a.png")
    given = (model, tmp_path / "photos", "--device", "reference", "--save", tmp_path / "out")
    result = run("predict", *given, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [Path(line["saved"]).relative_to(tmp_path / "out") for line in lines] == [
        Path("a.png.png"),
        Path("inner/a.png.png"),
    ]
    assert {entry["name"] for entry in lines[0]["classes"]} == {"red", "blue"} and lines[0]["task"] == "segment"
    with Image.open(tmp_path / "out" / "a.png.png") as image:
        assert image.size == (64, 48)
    text = run("predict", *given).stdout
    assert "1536 pixels  red" in text and "saved" in text


def test_predict_leaves_out_what_it_cannot_read(run: Any, tmp_path: Path) -> None:
    model = segmenter(tmp_path / "m", Segment("y"))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    photo = stripes(tmp_path / "a.png")
    result = run("predict", model, photo, tmp_path / "broken.jpg", "--device", "reference")
    assert result.exit_code == ExitCode.LEFT_OUT and "broken.jpg" in result.stderr
    result = run("predict", model, tmp_path / "broken.jpg", "--device", "reference")
    assert result.exit_code == ExitCode.ERROR


def test_predict_reads_videos(run: Any, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "v.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    model = segmenter(tmp_path / "m", Segment("y"))
    result = run(
        "predict", model, tmp_path / "v.mkv", "--device", "reference", "--save", tmp_path / "out", "--format", "jsonl"
    )
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out" / "v.mkv").iterdir()) == ["000000.png", "000001.png"]


def test_predict_needs_a_task(run: Any, tmp_path: Path) -> None:
    model = segmenter(tmp_path / "m", None)
    result = run("predict", model, stripes(tmp_path / "a.png"), "--device", "reference")
    assert result.exit_code == ExitCode.ERROR and "has no file `task`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_evaluate_segmentation(run: Any, tmp_path: Path) -> None:
    model = segmenter(tmp_path / "m", Segment("y"))
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    stripes(tmp_path / "set" / "images" / "a.png")
    mask = np.full((48, 64), 2, np.uint8)
    mask[:, :16] = 0
    mask[0] = 200  # Void.
    Image.fromarray(mask).save(tmp_path / "set" / "masks" / "a.png")
    result = run("evaluate", model, "--images", tmp_path / "set", "--device", "reference", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    # Red: 16 of 32 columns; blue: 32 of 48.
    assert report["metrics"]["mIoU"]["value"] == pytest.approx((1 / 2 + 2 / 3) / 2, abs=0.02)
    Image.fromarray(mask[:-1]).save(tmp_path / "set" / "masks" / "a.png")
    result = run("evaluate", model, "--images", tmp_path / "set", "--device", "reference")
    assert result.exit_code == ExitCode.ERROR and "has 64x47 pixels, but its photo has 64x48" in result.stderr


def test_evaluate_restoration(run: Any, tmp_path: Path) -> None:
    model = segmenter(tmp_path / "m", Restore("y", output_scale=1 / 127))
    (tmp_path / "set").mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(40, 200, (24, 32, 3), dtype=np.uint8)).save(tmp_path / "set" / f"{name}.png")
    given = ("evaluate", model, "--images", tmp_path / "set", "--device", "reference", "--json")
    clean = json.loads(run(*given).stdout)["metrics"]["PSNR"]["value"]
    noisy = json.loads(run(*given, "--noise", 25.5).stdout)["metrics"]["PSNR"]["value"]
    assert clean > 45 and noisy == pytest.approx(20, abs=0.5)
    assert "dB (95 % interval" in run(*given[:-1]).stdout
