"""Fine-tuning of a small network: it learns, writes what it should, and resumes."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_networks import PREPROCESSING, network, stripes

from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.data import batches
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.settings import AugmentationConfig, CalibrationConfig, TrainingConfig
from nybble.quantize.train import TrainingInterrupted, compare, evaluate, finetune

CONFIG = TrainingConfig(
    epochs=3,
    batch=8,
    learning_rate=0.02,
    warmup_epochs=0.5,
    range_batches=2,
    workers=0,
    augmentation=AugmentationConfig(crop="pad", padding=1, flip=0),
)


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training here."""
    if "test_files" not in request.node.name:
        monkeypatch.setattr("nybble.quantize.train.run.draw_curves", lambda path, rows: False)


def calibrated(method: str = "ste", **changes: object) -> QuantizedNetwork:
    prepared = network(method)
    config = CalibrationConfig(workers=0)
    calibrate(prepared, batches(stripes(32), PREPROCESSING, config), config)
    return prepared


def changed(**changes: object) -> TrainingConfig:
    return CONFIG.model_copy(update=changes)


def weights(prepared: QuantizedNetwork) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in prepared.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("method", ["ste", "lsq"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns(tmp_path: Path, method: str, optimizer: str) -> None:
    train, val = stripes(96), stripes(64, seed=1)
    prepared = calibrated(method)
    before = evaluate(prepared, val)
    steps = weights(prepared)
    config = changed(epochs=6, optimizer=optimizer, learning_rate=0.05 if optimizer == "sgd" else 0.01)
    seen: set[str] = set()
    result = finetune(prepared, train, val, config, work=tmp_path, progress=lambda what, done, total: seen.add(what))
    after = evaluate(prepared, val)
    assert after.top1.value > 0.9 > before.top1.value
    assert compare(before, after).difference == pytest.approx(after.top1.value - before.top1.value)
    assert prepared.mode == "quantize"
    # What is kept is the best epoch.
    assert after.top1.value == max(row["top1"] for row in result.epochs)
    assert result.epochs[result.best_epoch - 1]["top1"] == after.top1.value
    scales = [name for name in steps if name.endswith("scale") and "input" not in name]
    assert any(not torch.equal(prepared.state_dict()[name], steps[name]) for name in scales)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert {"epoch 1 of 6", "validating"} <= seen
    assert ("adjusting ranges" in seen) == (method == "ste")


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    finetune(calibrated(), stripes(16), stripes(8, seed=1), changed(epochs=1), work=tmp_path)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    names = {path.name for path in tmp_path.iterdir()}
    assert {"last.pt", "best.pt", "metrics.csv", "curves.png"} <= names
    assert not [name for name in names if name.endswith(".part")]
    pytest.importorskip("tensorboard")
    assert list((tmp_path / "tensorboard").glob("events*"))


SETTINGS = {
    "ste": ("ste", {}),
    "lsq": ("lsq", {"optimizer": "adamw"}),
    "everything": (
        "ste",
        {"ema": 0.9, "clip_norm": 0.5, "accumulate": 2, "label_smoothing": 0.1, "distillation": 0.5, "save_every": 2},
    ),
    "blocks": ("lsq", {"distillation": 0.5, "features": 0.5, "mixup": 0.3, "optimizer": "adamw"}),
}


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_resumed_runs_end_with_the_same_weights(tmp_path: Path, setting: str) -> None:
    method, changes = SETTINGS[setting]
    config = changed(**changes)
    train, val = stripes(40), stripes(16, seed=1)
    teacher = network(seed=5) if config.distillation else None
    whole = calibrated(method)
    expected = finetune(whole, train, val, config, teacher=teacher, work=tmp_path / "whole")
    last = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)

    class StopError(Exception):
        pass

    # Stopped after each of several steps: twice in an epoch, and at the last step of one.
    for stops in ([1], [3, 2], [5, 1, 1]):
        work = tmp_path / "-".join(map(str, stops))
        for count in stops:
            left = [count]

            def stop(what: str, done: int, total: int | None, left: list[int] = left) -> None:
                if what.startswith("epoch"):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGTERM)

            with pytest.raises(TrainingInterrupted, match="goes on from there"):
                finetune(calibrated(method), train, val, config, teacher=teacher, work=work, progress=stop)
        resumed = calibrated(method)
        torch.manual_seed(123)
        result = finetune(resumed, train, val, config, teacher=teacher, work=work)
        assert same(weights(whole), weights(resumed))
        state = torch.load(work / "last.pt", weights_only=True)
        assert same(last["network"], state["network"])
        assert torch.equal(last["rng"][0]["torch"], state["rng"][0]["torch"])
        for one, other in zip(expected.epochs, result.epochs, strict=True):
            for name in ("epoch", "learning_rate", "loss", "top1_train", "top1", "top5", "val_loss"):
                assert one[name] == other[name], name
        # A finished run is read back, not repeated.
        again = calibrated(method)
        finetune(again, train, val, config, teacher=teacher, work=work)
        assert same(weights(whole), weights(again))


def test_workers_do_not_matter(tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        prepared = calibrated()
        work = tmp_path / str(workers)
        finetune(prepared, stripes(24), stripes(8, seed=1), changed(workers=workers, epochs=2), work=work)
        found.append(weights(prepared))
    assert same(*found)


def test_accumulated_parts_are_one_batch(tmp_path: Path) -> None:
    found = []
    for accumulate in (1, 4):
        prepared = calibrated("lsq")
        config = changed(accumulate=accumulate, epochs=1, learning_rate=0.001)
        finetune(prepared, stripes(24), None, config, work=tmp_path / str(accumulate))
        found.append(weights(prepared))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-6)


def test_without_epochs_or_validation(tmp_path: Path) -> None:
    prepared = calibrated()
    before = weights(prepared)
    assert finetune(prepared, stripes(16), None, changed(epochs=0), work=tmp_path / "none").epochs == ()
    assert same(before, weights(prepared))
    result = finetune(prepared, stripes(16), None, changed(epochs=2), work=tmp_path / "blind")
    assert result.best_epoch == 2
    assert "top1" not in result.epochs[0]


def test_ranges_can_be_kept(tmp_path: Path) -> None:
    prepared = calibrated()
    before = {name: value for name, value in weights(prepared).items() if name.endswith("scale")}
    finetune(prepared, stripes(16), None, changed(epochs=1, range_batches=0), work=tmp_path)
    assert all(torch.equal(prepared.state_dict()[name], value) for name, value in before.items())
    finetune(prepared, stripes(16), None, changed(epochs=1, range_epochs=0), work=tmp_path, resume=False)
    assert all(torch.equal(prepared.state_dict()[name], value) for name, value in before.items())


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    prepared, photos = calibrated(), stripes(16)

    def refused(message: str, *, config: TrainingConfig = CONFIG, **others: object) -> None:
        with pytest.raises(QuantizeError, match=message):
            finetune(prepared, others.get("train", photos), None, config, work=tmp_path / "refused")  # type: ignore[arg-type]

    refused("do not fill one batch of 64", config=changed(batch=64))
    refused("distillation=0.5 needs a teacher", config=changed(distillation=0.5))
    refused("features=1.0 needs a teacher", config=changed(features=1.0))
    with pytest.raises(QuantizeError, match="has to be a copy of the network"):
        finetune(prepared, photos, None, changed(features=1.0), teacher=torch.nn.Identity(), work=tmp_path / "other")
    unlabelled = stripes(16)
    unlabelled._labels = [0] * 15 + [-1]
    refused("15: has no label", train=unlabelled)
    unlabelled._labels = [9] * 16
    refused(r"label 9 is not in 0\.\.3", train=unlabelled)
    smaller = changed(augmentation=AugmentationConfig(size=12))
    refused(
        "augmentation.size=12: this network has sizes of its own, so .*; leave augmentation.size out", config=smaller
    )
    refused("the loss became NaN", config=changed(learning_rate=1e30, range_batches=0))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    finetune(calibrated(), stripes(16), None, changed(epochs=1), work=tmp_path)
    with pytest.raises(QuantizeError, match="other settings"):
        finetune(calibrated(), stripes(16), None, changed(epochs=2), work=tmp_path)
    with pytest.raises(QuantizeError, match="other training photos"):
        finetune(calibrated(), stripes(20), None, changed(epochs=1), work=tmp_path)
    with pytest.raises(QuantizeError, match="other network"):
        finetune(calibrated("lsq"), stripes(16), None, changed(epochs=1), work=tmp_path)
    finetune(calibrated(), stripes(16), None, changed(epochs=1, save_every=1, workers=1), work=tmp_path)


def test_evaluation(tmp_path: Path) -> None:
    prepared, val = calibrated(), stripes(30, seed=2)
    one, other = evaluate(prepared, val, batch=7), evaluate(prepared, val, batch=30, workers=2)
    assert one.predictions == other.predictions
    assert one.top5.right == 30
    assert one.loss == pytest.approx(other.loss, rel=1e-5)
    low, high = one.top1.interval
    assert low <= one.top1.value <= high
    assert one.to_dict()["images"] == 30
    with pytest.raises(QuantizeError, match="not of the same photos"):
        compare(one, evaluate(prepared, stripes(20, seed=2)))
