"""What ``nybble quantize`` needs of photos: labels only where something learns from them or counts with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from sources_to_quantize import CLASSES, stripes
from test_cli_quantize import SETTINGS, SOURCE
from typer.testing import CliRunner

from nybble.cli import app
from nybble.cli.exit_codes import ExitCode
from nybble.graph import Graph, read_graph, write_graph
from nybble.quantize.pipeline import post
from nybble.report.records import Quantization, read_record

pytestmark = pytest.mark.usefixtures("quick_quantization")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("images"), 32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """The same photos without labels."""
    folder = tmp_path_factory.mktemp("plain")
    for index, path in enumerate(sorted(images.rglob("*.png"))):
        shutil.copy(path, folder / f"{index}.png")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments), "--threads", "1"])


def test_without_labels_agreement_is_measured(plain: Path, settings: Path, tmp_path: Path, run: Any) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'nybble[quantize]'")
    out, work, report = tmp_path / "out", tmp_path / "work", tmp_path / "report"
    arguments = (SOURCE, "--images", plain, "--config", settings, "--epochs", 0, "--work", work)
    found = call(*arguments, "--out", out, "--report", report, "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    stages = result["stages"]
    assert [stage["name"] for stage in stages] == ["float", "calibrated", "integer engine"]
    for stage in stages:
        for name in ("top1", "top1_right", "top1_interval", "top5", "top5_right", "loss", "against_float"):
            assert stage[name] is None
        assert stage["images"] == result["images"]["selection"] > 0
    assert stages[0]["same_top1_as_float"] is None
    assert all(0 <= stage["same_top1_as_float"] <= 1 for stage in stages[1:])
    assert (result["left_out"], result["exif"]) == ([], False)
    # What was evaluated is kept, without labels too.
    again = call(*arguments, "--out", tmp_path / "again", "--json")
    assert [stage["same_top1_as_float"] for stage in json.loads(again.stdout)["stages"]] == [
        stage["same_top1_as_float"] for stage in stages
    ]
    record = read_record(out / "result.json", (out / "result.json").read_bytes())
    assert isinstance(record, Quantization) and record.stages[0].top1 is None
    page = run("report", report, "--out", tmp_path / "page.html")
    assert page.exit_code == 0, page.output
    text = (tmp_path / "page.html").read_text()
    assert "Accuracy was not measured" in text and "float network" in text


@pytest.mark.parametrize("count", [1, 2])
def test_very_few_photos_calibrate(plain: Path, settings: Path, tmp_path: Path, count: int) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for index in range(count):
        shutil.copy(plain / f"{index}.png", folder)
    found = call(SOURCE, "--images", folder, "--config", settings, "--epochs", 0, "--out", tmp_path / "out", "--json")
    assert found.exit_code == 0, found.output
    images = json.loads(found.stdout)["images"]
    assert (images["train"], images["selection"]) == (count, count)
    assert "too few to split" in images["selection_origin"]


def test_without_labels_the_table_says_so(plain: Path, settings: Path, tmp_path: Path) -> None:
    found = call(SOURCE, "--images", plain, "--config", settings, "--epochs", 0, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    lines = found.stdout.splitlines()
    assert "as float" in lines[0] and "top-1" not in lines[0]
    assert "accuracy is not measured: the photos have no labels" in lines
    assert any(line.startswith("as float on") for line in lines)


def test_labels_of_the_selection_alone_measure_accuracy(
    plain: Path, images: Path, settings: Path, tmp_path: Path
) -> None:
    found = call(
        SOURCE,
        "--images",
        plain,
        "--val",
        images,
        "--config",
        settings,
        "--epochs",
        0,
        "--out",
        tmp_path / "o",
        "--json",
    )
    assert found.exit_code == 0, found.output
    stages = json.loads(found.stdout)["stages"]
    assert all(stage["top1"] is not None for stage in stages)
    assert all(stage["same_top1_as_float"] is not None for stage in stages[1:])


def test_distillation_needs_no_labels(plain: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    training = SETTINGS["training"] | {"epochs": 1, "distillation": 1.0, "range_batches": 0}
    settings.write_text(yaml.safe_dump(SETTINGS | {"training": training}))
    found = call(SOURCE, "--images", plain, "--config", settings, "--out", tmp_path / "out", "--json")
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert [stage["name"] for stage in result["stages"]] == ["float", "calibrated", "fine-tuned", "integer engine"]
    assert all("top1_train" not in row and "top1" not in row for row in result["training"])
    assert result["kept"] in ("calibrated", "fine-tuned")
    settings.write_text(yaml.safe_dump(SETTINGS | {"training": training | {"distillation": 0.9}}))
    refused = call(SOURCE, "--images", plain, "--config", settings, "--out", tmp_path / "refused")
    assert refused.exit_code not in (0, ExitCode.LEFT_OUT)
    assert refused.stderr.count("\n") == 1
    assert "no labels, which are needed for fine-tuning" in refused.stderr and "--epochs 0" in refused.stderr


def test_a_speed_budget_needs_no_labels(
    plain: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small a network, timed again, may seem slower than itself.
    monkeypatch.setattr(post, "network_timer", lambda *_: None)
    found = call(
        SOURCE,
        "--images",
        plain,
        "--config",
        settings,
        "--epochs",
        0,
        "--speed",
        1,
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["details"]["bits"]["accuracy"] is None


def test_class_folders_of_something_else_calibrate(
    plain: Path, settings: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    for index, path in enumerate(sorted(plain.iterdir())):
        place = tmp_path / "albums" / f"album {index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    found = call(
        SOURCE, "--images", tmp_path / "albums", "--config", settings, "--epochs", 0, "--out", tmp_path / "o", "--json"
    )
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["stages"][0]["top1"] is None
    assert "has 3 classes" in found.stderr and "labels are not used" in found.stderr


def test_class_folders_are_found_by_the_networks_names(images: Path, settings: Path, tmp_path: Path) -> None:
    """A network that names its classes in another order than their folders stand in."""
    out = tmp_path / "first"
    assert call(SOURCE, "--images", images, "--config", settings, "--epochs", 0, "--out", out).exit_code == 0
    graph = read_graph(out / "model")
    assert graph.class_names == tuple(f"kind{label}" for label in range(CLASSES))
    names = ["zebra", "ant", "mole", "bee"]
    named = Graph(graph.inputs, graph.nodes, graph.outputs, preprocessing=graph.preprocessing, class_names=names)
    write_graph(named, tmp_path / "named" / "model")
    for label, name in enumerate(names):
        shutil.copytree(images / f"kind{label}", tmp_path / "photos" / name)
    results = []
    for source, photos in ((out, images), (tmp_path / "named", tmp_path / "photos")):
        options = ("--images", photos, "--val", photos, "--config", settings, "--epochs", 1, "--json")
        found = call(source, *options, "--out", tmp_path / f"out{len(results)}")
        assert found.exit_code == 0, found.output
        results.append(json.loads(found.stdout)["stages"][0]["top1_right"])
    assert results[0] == results[1]


@pytest.mark.parametrize("epochs", [0, 1])
def test_bad_photos_are_left_out(images: Path, settings: Path, tmp_path: Path, epochs: int) -> None:
    shutil.copytree(images, tmp_path / "photos")
    (tmp_path / "photos" / "kind1" / "bad.jpg").write_bytes(b"no photo")
    (tmp_path / "photos" / "kind1" / "odd.heic").write_bytes(b"ftypheic")
    found = call(
        SOURCE,
        "--images",
        tmp_path / "photos",
        "--val",
        images,
        "--config",
        settings,
        "--epochs",
        epochs,
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert found.exit_code == ExitCode.LEFT_OUT, found.output
    result = json.loads(found.stdout)
    assert sorted(photo["file"] for photo in result["left_out"]) == ["kind1/bad.jpg", "kind1/odd.heic"]
    assert "warning: kind1/bad.jpg: is not an image that Pillow can read; left out" in found.stderr


def test_turned_photos_are_other_photos(images: Path, settings: Path, tmp_path: Path) -> None:
    """With --exif sideways photos give what upright ones do."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in images.rglob("*.png"):
        target = tmp_path / "turned" / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as photo:
            photo.transpose(Image.Transpose.ROTATE_90).save(target, exif=exif)

    def stages(photos: Path, *options: object) -> Any:
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        arguments = ("--images", photos, "--config", settings, "--epochs", 0, "--out", out, "--json")
        found = call(SOURCE, *arguments, *options)
        assert found.exit_code == 0, found.output
        result = json.loads(found.stdout)
        assert yaml.safe_load((out / "quantize.yaml").read_text())["exif"] is result["exif"]
        return result["exif"], [stage["loss"] for stage in result["stages"]]

    upright = stages(images)
    assert upright[0] is False
    sideways = stages(tmp_path / "turned")
    turned = stages(tmp_path / "turned", "--exif")
    assert turned[0] is True
    np.testing.assert_allclose(turned[1], upright[1])
    assert not np.allclose(sideways[1], upright[1])
