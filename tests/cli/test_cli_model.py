"""Commands that can do without MODEL take the one that NYBBLE_MODEL names, else the bundled one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nybble import models


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("command", ["evaluate", "verify", "inspect"])
def test_without_model(run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    rest = ["--json"] if command == "inspect" else ["--images", photos, "--limit", 2, "--json"]
    named = json.loads(run(command, model, *rest).stdout)
    monkeypatch.setenv("NYBBLE_MODEL", str(model))
    assert _same(json.loads(run(command, *rest).stdout), named)
    monkeypatch.delenv("NYBBLE_MODEL")
    monkeypatch.setattr(models, "bundled", lambda name: model)
    result = run(command, *rest)
    assert _same(json.loads(result.stdout), named | {"model": models.SHIPPED})
    monkeypatch.setattr(models, "bundled", lambda name: None)
    result = run(command, *rest)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "efficientnet-lite0 is missing from this installation of nybble" in result.stderr


@pytest.mark.parametrize("command", ["profile", "tune"])
def test_profile_and_tune_without_model(run: Any, model: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(models, "bundled", lambda name: model)
    options = {"profile": ["--runs", 1], "tune": ["--seconds", 1]}[command]
    result = run(command, "--limit", 1, "--threads", 1, "--json", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"] == models.SHIPPED


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Equal but for what depends on the clock."""
    keys = [key for key in second if not key.startswith("images_per_second")]
    return all(first[key] == second[key] for key in keys)
