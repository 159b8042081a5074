from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_engine import STEPS, FakeEngine

from nybble.cli.verify import _first_difference


@pytest.mark.parametrize("options", [[], ["--layers"], ["--layers", "--batch", 3, "--threads", 1]])
def test_no_difference(run: Any, engine: SimpleNamespace, model: Path, photos: Path, options: list[object]) -> None:
    result = run("verify", model, "--images", photos, *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("no difference: every logit")
    assert ("3 fused steps" in result.stdout) == ("--layers" in options)
    assert "on 7 images" in result.stdout


def test_counts_what_it_compared(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    report = json.loads(run("verify", model, "--images", photos, "--limit", 2, "--layers", "--json").stdout)
    sizes = [int(np.prod(engine.made[0].graph.values[name].shape)) for name in STEPS]
    assert report["equal"] is True
    assert report["difference"] is None
    assert (report["images"], report["steps"]) == (2, 3)
    # Logits come twice more: from the integer input and from the photos.
    assert report["values_compared"] == 2 * (sum(sizes) + 2 * 10)


def test_the_first_layer_that_differs_is_named(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    # The fifth photo (row 1 of the second batch) differs in two layers, the sixth earlier in the network.
    engine.faults.update({"layer1_0_quantize1": (1, 3, 2, 5), "scale": (1, 4)})
    result = run("verify", model, "--images", photos, "--layers", "--batch", 3, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)["difference"]
    assert (found["layer"], found["image"], found["position"]) == ("layer1_0_quantize1", "1.png", [3, 2, 5])
    assert found["got"] == found["expected"] + 1
    assert result.stderr == (
        f"error: layer1_0_quantize1 differs on 1.png at (3, 2, 5): expected {found['expected']}, got {found['got']}\n"
    )


def test_wrong_logits_are_found_without_layers(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    engine.faults["scale"] = (0, 9)
    result = run("verify", model, "--images", photos, "--batch", 4)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: logits from integers differs on 0.png at (9): expected " in result.stderr


def test_a_wrong_step_is_not_seen_without_layers(run: Any, engine: SimpleNamespace, model: Path, photos: Path) -> None:
    engine.faults["quantize1"] = (0, 0, 0, 0)
    assert run("verify", model, "--images", photos).exit_code == 0
    assert run("verify", model, "--images", photos, "--layers").exit_code == 1


def test_an_engine_that_taps_nothing_proves_nothing(
    run: Any, engine: SimpleNamespace, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "tap", lambda self, x: {})
    result = run("verify", model, "--images", photos, "--layers")
    assert result.exit_code == 1
    assert "returns no values of steps" in result.stderr
    monkeypatch.setattr(FakeEngine, "tap", lambda self, x: {"odd": x})
    assert "taps 'odd', which is not a value" in run("verify", model, "--images", photos, "--layers").stderr
    monkeypatch.setattr(FakeEngine, "tap", lambda self, x: {"quantize1": x})
    assert "the engine gives int8 of shape" in run("verify", model, "--images", photos, "--layers").stderr


def test_zeros_of_either_sign_differ() -> None:
    want = np.array([[1.0, 0.0]], dtype=np.float32)
    assert _first_difference(want, want.copy()) is None
    assert _first_difference(want, np.array([[1.0, -0.0]], dtype=np.float32)) == (0, 1)
