from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nybble import synthetic
from nybble.cli import model as models
from nybble.cli.model import ModelNotFoundError, find
from nybble.graph import read_graph

NAME = "nvidia-resnet50-int4"


@pytest.fixture(autouse=True)
def no_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data of the checkout these tests run from does not count; returns where it would be sought."""
    data = tmp_path / "shared" / "data"
    monkeypatch.setattr(models, "_checkout_data", lambda: [data])
    return data


@pytest.fixture
def skimage_photos() -> None:
    pytest.importorskip("skimage")


@pytest.mark.usefixtures("skimage_photos")
def test_classifies_the_photos_of_scikit_image(run: Any, engine: SimpleNamespace, model: Path) -> None:
    result = run("demo", "--model", model, "--seconds", 0, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert str(model) in result.stdout
    assert "the one asked for" in result.stdout
    assert re.search(r"chelsea\.png +a cat +thing \d +\d+\.\d%", result.stdout)
    assert re.search(r"coffee\.png +a cup of coffee +thing \d +\d+\.\d%", result.stdout)
    assert re.search(r"8 +\d+\.\d +median of 5 runs", result.stdout)
    assert engine.made[0].threads == 1


@pytest.mark.usefixtures("skimage_photos")
def test_without_a_model_it_shows_the_speed_alone(
    run: Any, engine: SimpleNamespace, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "resnet50", lambda: read_graph(model))
    result = run("demo", "--seconds", 0)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("No trained model was found")
    assert f"`nybble fetch {NAME}`" in result.stdout
    assert "ResNet-50 v1.5, synthetic weights" in result.stdout
    assert "median of 5 runs" in result.stdout
    assert "chelsea" not in result.stdout
    assert not re.search(r"thing \d", result.stdout)


def test_without_scikit_image_it_says_what_to_install(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run("demo")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pip install 'nybble[demo]'" in result.stderr


def test_where_a_model_is_looked_for(
    model: Path, tmp_path: Path, no_checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(None) is None
    shutil.copytree(model, no_checkout / NAME)
    found = find(None)
    assert found is not None
    assert found == (no_checkout / NAME, "development data beside the checkout")
    shutil.copytree(model, tmp_path / "cache" / NAME)
    assert find(None) == (tmp_path / "cache" / NAME, "fetched before, in the cache")
    monkeypatch.setenv("NYBBLE_MODEL", str(model))
    assert find(None) == (model, "named by NYBBLE_MODEL")
    assert find(NAME) == (tmp_path / "cache" / NAME, "the one asked for")


def test_a_wrong_wish_is_not_replaced(no_checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (no_checkout / NAME).mkdir(parents=True)
    with pytest.raises(ModelNotFoundError, match="nowhere: there is no such folder"):
        find("nowhere")
    monkeypatch.setenv("NYBBLE_MODEL", "nowhere")
    with pytest.raises(ModelNotFoundError, match="NYBBLE_MODEL: nowhere: there is no such folder"):
        find(None)


def test_a_checkout_is_looked_for_from_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    assert models._checkout_data()[0] == tmp_path / "shared" / "data"


def test_speed_is_the_median_after_one_run_that_does_not_count() -> None:
    from nybble.cli.demo import measure

    now = 0.0
    costs = iter([9.0, 1.0, 5.0, 2.0, 1.0, 3.0, 2.0])
    batches = []

    def engine(photos: Any) -> None:
        nonlocal now
        batches.append(len(photos))
        now += next(costs)

    photos = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    assert measure(engine, photos, 8, 13.0, clock=lambda: now) == (8, 8 / 2.0, 5)
    assert batches == [8] * 6
