"""Which model is meant where none is given, and by which names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import nybble
from nybble import models
from nybble.cache import cache_folder
from nybble.graph import write_graph
from nybble.models import CASCADE, DETECTOR, LARGER, SHIPPED, Found, ModelNotFoundError, find, locate, names
from nybble.synthetic import bottleneck_resnet

FETCHED = "nvidia-resnet50-int4"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_graph(bottleneck_resnet(blocks=(1,), width=8, image=32, classes=10), folder)
    return folder


@pytest.fixture(autouse=True)
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installation of nybble without a network; returns the package's folder."""
    package = tmp_path / "src" / "nybble"
    package.mkdir(parents=True)
    monkeypatch.setattr(models, "__file__", str(package / "models.py"))
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NYBBLE_MODEL", raising=False)
    return package


@pytest.mark.parametrize("place", ["data/models", "../../models"])
def test_the_network_in_the_box_lies_in_the_package_or_the_checkout(installation: Path, tiny: Path, place: str) -> None:
    (installation / "data").mkdir()
    shutil.copytree(tiny, installation / place / SHIPPED)
    found = find()
    assert found == Found(found.path, SHIPPED, "comes with nybble")
    assert found.path.samefile(installation / place / SHIPPED)
    assert nybble.load(threads=1).graph.values["scale"].shape == (10,)


def test_a_card_alone_is_no_network(installation: Path) -> None:
    folder = installation / "data" / "models" / SHIPPED
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# no model yet\n")
    with pytest.raises(ModelNotFoundError, match="missing from this installation"):
        nybble.load()


def test_the_order_of_resolution(installation: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny, installation / "data" / "models" / SHIPPED)
    shutil.copytree(tiny, cache_folder() / FETCHED)
    assert find().name == SHIPPED
    monkeypatch.setenv("NYBBLE_MODEL", FETCHED)
    assert find() == Found(cache_folder() / FETCHED, FETCHED, "named by NYBBLE_MODEL")
    assert find(str(tiny)) == Found(tiny, str(tiny), "the one asked for")
    assert find(SHIPPED) == Found(installation / "data" / "models" / SHIPPED, SHIPPED, "the one asked for")


def test_a_wrong_wish_is_not_replaced(installation: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny, installation / "data" / "models" / SHIPPED)
    known = f"{', '.join(models.NETWORKS)} and {CASCADE}"
    with pytest.raises(ModelNotFoundError, match=f"nowhere: there is no such folder or file; {known}"):
        find("nowhere")
    monkeypatch.setenv("NYBBLE_MODEL", "nowhere")
    with pytest.raises(ModelNotFoundError, match="NYBBLE_MODEL: nowhere: there is no such folder"):
        nybble.load()


def test_load_takes_what_commands_take(installation: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installation)
    for model in (SHIPPED, FETCHED, "nowhere", str(tiny / "model" / "model"), "~nobody-of-that-name/m", "x" * 300):
        with pytest.raises(ModelNotFoundError) as by_command:
            find(model)
        for same in (model, Path(model), os.fsencode(model)):
            with pytest.raises(ModelNotFoundError) as by_load:
                nybble.load(same)  # type: ignore[arg-type]
            assert str(by_load.value) == str(by_command.value)
            assert isinstance(by_load.value, ValueError)
    shutil.copytree(tiny, installation / "data" / "models" / SHIPPED)
    shutil.copytree(tiny, cache_folder() / FETCHED)
    for model in (SHIPPED, FETCHED, str(tiny), tiny, tiny / "model"):
        assert nybble.load(model, threads=1).graph.values["scale"].shape == (10,)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("efficientnet-lite", SHIPPED),
        ("EfficientNet-lite0", SHIPPED),
        ("EFFICIENTNET-LITE0", SHIPPED),
        (f"{SHIPPED}/", SHIPPED),
        ("nvidia-resnet50", FETCHED),
        ("ResNet50", LARGER),
        ("lite0-resnet", CASCADE),
    ],
)
def test_a_name_that_is_almost_right_is_suggested(wrong: str, meant: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"{wrong}: there is no such folder or file; did you mean {meant}\\? "):
        find(wrong)


def test_what_a_name_means(tiny: Path) -> None:
    assert names() == [SHIPPED, LARGER, DETECTOR, CASCADE, FETCHED]
    assert locate(str(tiny)) == tiny
    with pytest.raises(ModelNotFoundError, match=f"run: nybble fetch {FETCHED}"):
        locate(FETCHED)
    with pytest.raises(ModelNotFoundError, match="is not a model: a model is a folder"):
        locate(str(tiny / "model" / "model"))
    for name in (SHIPPED, LARGER, DETECTOR, CASCADE):
        with pytest.raises(ModelNotFoundError, match=f"{name} is missing .* install nybble again"):
            locate(name, ensembles=True)
    with pytest.raises(ModelNotFoundError, match=f"{CASCADE}: describes an ensemble, and this needs a single network"):
        locate(CASCADE)


def test_the_bundled_cascade_names_bundled_networks(installation: Path, tiny: Path) -> None:
    folder = installation / "data" / "models"
    for name in (SHIPPED, LARGER):
        shutil.copytree(tiny, folder / name)
    (folder / CASCADE).mkdir()
    members = f'[[member]]\nmodel = "{SHIPPED}"\nmargin_below = 0.5\n[[member]]\nmodel = "{LARGER}"\n'
    (folder / CASCADE / f"{CASCADE}.toml").write_text(f'format = "nybble-ensemble/1"\nkind = "cascade"\n{members}')
    assert locate(CASCADE, ensembles=True) == folder / CASCADE / f"{CASCADE}.toml"
    with nybble.load(CASCADE, threads=1) as cascade:
        assert isinstance(cascade, nybble.Cascade)
        assert cascade.folders == (folder / SHIPPED, folder / LARGER)
