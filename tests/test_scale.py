"""What docs/scale.md says: the manifest for KServe, and core-hours."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from nybble.models import names

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def core_hours() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "core_hours.py"))


def test_core_hours_and_price(core_hours: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert core_hours["core_hours"](0.036, 1e9) == pytest.approx(10_000)
    known = {
        "date": "2026-11-30",
        "machine": {"cpu": "a processor"},
        "photos": 5,
        "bytes": 1e5,
        "seconds": {"net": 0.018},
    }
    (tmp_path / "known.json").write_text(json.dumps(known))
    core_hours["main"](["--measured", str(tmp_path / "known.json"), "--price", "0.04", "--photos", "2e9"])
    assert "| net | 18.00 | 10,000 | 400 |" in capsys.readouterr().out


def test_the_manifest_fits_the_server() -> None:
    """Its probes are addresses that need no token, and its model is bundled."""
    yaml = pytest.importorskip("yaml")
    guard = pytest.importorskip("nybble.serve.rest.guard")
    predictor = yaml.safe_load((ROOT / "docs" / "kserve.yaml").read_text(encoding="utf-8"))["spec"]["predictor"]
    (container,) = predictor["containers"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in guard.OPEN
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["containerPort"]
    model, *options = container["args"]
    assert model.partition("=")[2] in names()
    assert options == [
        "--port",
        str(container["ports"][0]["containerPort"]),
        "--threads",
        container["resources"]["limits"]["cpu"],
    ]
    assert container["resources"]["requests"] == container["resources"]["limits"]
