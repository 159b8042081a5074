"""A measurement that others disturbed says so before anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from nybble import disturbance
from nybble.cli import app
from nybble.disturbance import Usage, Watch, is_disturbed, warning
from nybble.graph import write_graph
from nybble.synthetic import bottleneck_resnet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_graph(bottleneck_resnet(blocks=(1,), width=8, image=32, classes=10), folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of one labelled photo."""
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    (tmp_path / "labels.csv").write_text("file,label\nred.png,1\n")
    return tmp_path


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of which others take 40 %."""
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Watch, "taken", lambda self: {"other_processes": 0.3, "other_guests": 0.1})


@pytest.mark.parametrize(
    ("others", "guests", "disturbed"), [(0.0, 0.0, False), (0.03, 0.02, False), (0.03, 0.03, True), (0.0, 0.06, True)]
)
def test_what_counts_as_disturbed(others: float, guests: float, disturbed: bool) -> None:
    taken = {"other_processes": others, "other_guests": guests}
    assert is_disturbed(taken) is disturbed
    assert (warning(taken) is not None) is disturbed
    assert not is_disturbed(None) and warning(None) is None


def test_what_is_too_short_to_tell_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([Usage(10.0, 5.0, 0.0, 1.0), Usage(10.5, 5.5, 0.0, 1.0), Usage(14.0, 9.0, 0.0, 1.0)])
    monkeypatch.setattr(disturbance, "usage", lambda: next(moments))
    watch = Watch()
    assert watch.taken() is None
    assert watch.taken() == {"other_processes": 1.0, "other_guests": 0.0}


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize("command", ["evaluate", "profile", "tune"])
def test_the_warning_comes_first(model: Path, photos: Path, command: str) -> None:
    options: dict[str, tuple[Any, ...]] = {
        "evaluate": ("--images", photos),
        "profile": ("--runs", "1"),
        "tune": ("--seconds", "1"),
    }
    arguments = [command, str(model), "--limit", "1", "--threads", "1", *map(str, options[command])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "WARNING   other work used 40% of the machine during the measurement; the speeds are "
    )
    document = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert document["warning"].startswith("other work used 40% of the machine")
    assert document["disturbance"] == {"other_processes": 0.3, "other_guests": 0.1}


def test_a_quiet_machine_is_not_warned_of(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "taken", lambda self: {"other_processes": 0.01, "other_guests": 0.0})
    arguments: list[Any] = ["profile", str(model), "--limit", "1", "--runs", "1"]
    assert "WARNING" not in CliRunner().invoke(app, arguments).stdout
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["warning"] is None
