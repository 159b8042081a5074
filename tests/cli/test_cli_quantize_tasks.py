"""``nybble quantize`` of networks that are not classifiers: task, noise, distillation, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from nybble.cli import app
from nybble.cli.exit_codes import ExitCode
from nybble.graph import Conv2d, Restore, read_graph

torch = pytest.importorskip("torch", reason="needs torch: pip install 'nybble[quantize]'")


SOURCE = "task_sources:denoiser"
SETTINGS: dict[str, Any] = {
    "bits": "w4a4",
    "noise": 25.0,
    "calibration": {"workers": 0, "batch": 8},
    "training": {"workers": 0, "batch": 4, "learning_rate": 0.005, "range_batches": 2},
}
pytestmark = pytest.mark.usefixtures("quick_quantization")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos without labels, a task, and settings."""
    place = tmp_path_factory.mktemp("denoiser")
    (place / "photos").mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        rows = np.linspace(0, 255 * random.random(), 18)[:, None] * np.ones((1, 20))
        Image.fromarray(rows.astype(np.uint8)).convert("RGB").save(place / "photos" / f"{number}.png")
    (place / "task").write_text("Restore\noutput=output\nform=residual\noverlap=3\n")
    (place / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))
    return place


def run(folder: Path, out: Path, *options: str, task: bool = True) -> Any:
    given = ["quantize", SOURCE, "--images", str(folder / "photos"), "--out", str(out)]
    given += ["--config", str(folder / "settings.yaml"), "--threads", "1", "--json", *options]
    return CliRunner().invoke(app, [*given, *(["--task", str(folder / "task")] if task else [])])


def test_a_denoiser_is_distilled_without_labels(folder: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out", tmp_path / "report"
    result = run(folder, out, "--distil", "--epochs", "4", "--report", str(report))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["task"] == "restore"
    stages = {stage["name"]: stage for stage in found["stages"]}
    assert list(stages) == ["float", "calibrated", "fine-tuned", "integer engine"]
    noise = {name: stage["outputs"]["mean_noise"] for name, stage in stages.items()}
    assert noise["float"] == 0 and stages["float"]["top1"] is None
    # Channels of one size leave less to gain: 0.0013 of 0.00145, where it was 0.0024 of 0.0044.
    assert noise["fine-tuned"] < 0.95 * noise["calibrated"]
    assert noise["integer engine"] == pytest.approx(noise["fine-tuned"], rel=0.1)
    graph = read_graph(out)
    assert graph.task == Restore("output", form="residual", overlap=3)
    assert graph.preprocessing is not None and graph.preprocessing.fit == "none"
    with Image.open(report / "answers.png") as sheet:
        assert sheet.width > sheet.height / 4 > 50
    rows = list(csv.DictReader((report / "worst.csv").read_text().splitlines()))
    ratios = [float(row["integer"]) for row in rows if row["kind"] == "activation"]
    assert ratios == sorted(ratios) and {row["kind"] for row in rows} == {"activation", "weights"}
    # Noise passes the range of black and white.
    assert graph.preprocessing.scale_denominator == pytest.approx(1 + 4 * 25 / 255, abs=1e-3)
    # What is written beside the network repeats the run.
    written = yaml.safe_load((out / "quantize.yaml").read_text())
    assert written["task"]["kind"] == "Restore" and written["training"]["distillation"] == 1
    measured = CliRunner().invoke(
        app, ["evaluate", "--images", str(folder / "photos"), str(out), "--noise", "25", "--json"]
    )
    assert measured.exit_code == 0, measured.output
    assert "PSNR" in json.loads(measured.stdout)["metrics"]


def test_a_model_directory_is_distilled_further(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(folder, first, "--epochs", "0").exit_code == 0
    given = ["quantize", str(first), "--images", str(folder / "photos"), "--threads", "1", "--json"]
    given += ["--config", str(folder / "settings.yaml"), "--epochs", "1"]
    result = CliRunner().invoke(app, [*given, "--out", str(second)])
    assert result.exit_code == ExitCode.ERROR and "--distil" in result.output
    result = CliRunner().invoke(app, [*given, "--out", str(second), "--distil"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["task"] == "restore"
    before, after = read_graph(first), read_graph(second)
    assert after.task == before.task and after.preprocessing == before.preprocessing
    assert [node.op for node in after] == [node.op for node in before]


@pytest.mark.parametrize("method", [{"correct_bias": True}, {"reconstruct": True}])
def test_without_training(folder: Path, tmp_path: Path, method: dict[str, bool]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        yaml.safe_dump({**SETTINGS, **method, "reconstruction": {"iterations": 60, "batch": 8, "rate": 0.05}})
    )
    noise = []
    for place, name in ((folder / "settings.yaml", "plain"), (settings, "method")):
        result = run(folder, tmp_path / name, "--epochs", "0", "--config", str(place), task=False)
        assert result.exit_code == 0, result.output
        noise.append(json.loads(result.stdout)["stages"][-1]["outputs"]["mean_noise"])
        assert read_graph(tmp_path / name).task is None
    assert noise[1] < noise[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", "2"), "--distil, or --epochs 0"),
        (("--epochs", "0", "--min-accuracy", "50"), "is not a classifier, so it has no top-1"),
        (("--epochs", "0", "--crop", "30"), "fewer than the 30x30 of the input"),
    ],
)
def test_settings_that_need_classes(folder: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    for path in sorted((folder / "photos").iterdir())[:8]:
        (labelled / path.name).write_bytes(path.read_bytes())
    rows = "".join(f"{path.name},0\n" for path in sorted(labelled.iterdir()))
    (labelled / "labels.csv").write_text(f"file,label\n{rows}")
    result = run(folder, tmp_path / "out", "--images", str(labelled), *options)
    assert result.exit_code == ExitCode.ERROR and words in " ".join(result.output.split()), result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Restore\noutput=noise\n", "reads 'noise', which is not an output; the outputs are output"),
        ("Restored\n", "unknown task 'Restored'"),
        ("Restore\noutput=output\nform=both\n", "task:3: form: unknown value 'both'"),
        ("Segment\noutput=output\n", "noise is added for the task restore, not for segment"),
        ("", "is no file of 1 to"),
    ],
)
def test_tasks_that_do_not_fit(folder: Path, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "task").write_text(text)
    result = run(folder, tmp_path / "out", "--epochs", "0", "--task", str(tmp_path / "task"), task=False)
    assert result.exit_code == ExitCode.ERROR and words in " ".join(result.output.split()), result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("of", ["multiplications", "weights"])
def test_a_share_gets_four_bits(folder: Path, tmp_path: Path, of: str) -> None:
    out = tmp_path / "out"
    settings = tmp_path / "settings.yaml"
    criterion = {"multiplications": "sqnr", "weights": "accuracy"}[of]
    mixed = {"four": "w4a8", "share_of": of, "criterion": criterion}
    settings.write_text(yaml.safe_dump({**SETTINGS, "bits": "mixed", "mixed": mixed}))
    result = run(folder, out, "--epochs", "0", "--config", str(settings), "--four-bit-share", "0.8")
    assert result.exit_code == 0, result.output
    bits = json.loads(result.stdout)["details"]["bits"]
    # The first and the last layer stay in eight bits: there is one to choose.
    assert bits["groups"] == len(bits["four_bits"]) == 1
    assert bits[f"share_of_{of}"] == {"of_choosable": 1.0, "of_all": pytest.approx(64 / 80)}
    weights = [node.weight.dtype for node in read_graph(out) if isinstance(node, Conv2d)]
    assert weights == ["s8", "s4", "s8"]
