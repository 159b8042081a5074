"""Calibration: what it sets, that it resumes exactly, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import PREPROCESSING, network, stripes

from nybble import schemas
from nybble.quantize.calibrate.calibration import STATE, calibrate
from nybble.quantize.calibrate.report import CalibrationReport
from nybble.quantize.data import batches
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import CalibrationConfig

CONFIG = CalibrationConfig(batch=4, workers=0, save_every=2, bins=256)


class KilledError(Exception):
    pass


class Interrupted:
    """The batches of a source, up to one at which the run is killed."""

    def __init__(self, source: object, last: int) -> None:
        self.source, self.last = source, last
        self.fingerprint = source.fingerprint  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[object]:
        for number, batch in enumerate(self.source):  # type: ignore[arg-type, var-annotated]
            if number == self.last:
                raise KilledError
            yield batch


def same(first: CalibrationReport, second: CalibrationReport) -> bool:
    return first.tensors == second.tensors and all(
        np.array_equal(first.observers[name].counts, second.observers[name].counts) for name in first.observers
    )


def test_every_range_is_set_and_reported() -> None:
    prepared = network()
    source = batches(stripes(24), PREPROCESSING, CONFIG)
    seen: list[tuple[str, int, int | None]] = []
    report = calibrate(prepared, source, CONFIG, progress=lambda *at: seen.append(at))
    assert prepared.mode == "quantize"
    assert set(report.tensors) == {"relu1", "relu2"}
    assert report.images == 24
    for name, quantizer in prepared.activation_quantizers().items():
        tensor = report.tensors[name]
        assert quantizer.observer is None
        assert quantizer.range == pytest.approx(tensor.range)
        assert 0 < tensor.range <= tensor.maximum * 1.0001
        assert tensor.minimum == 0
        assert 0 < tensor.zeros < 1
        assert tensor.clipped < 0.01
    for name, layer in prepared.layers().items():
        quantizer = prepared.weight_quantizers()[name]
        # Steps grow a little, so that the integer network's factors are exact.
        growth = quantizer.scale * quantizer.high / layer.weight.flatten(1).abs().amax(1)
        assert bool((growth > 1 - 1e-5).all()) and bool((growth < 1.5).all())
    assert seen[-1] == ("calibrating", 24, 24)
    json.dumps(report.to_dict(), allow_nan=False)
    # The quantized network is near the float one.
    images = next(iter(source)).images
    with torch.inference_mode():
        quantized = prepared(images)
        prepared.set_mode("float")
        exact = prepared(images)
    assert float((quantized - exact).square().mean() / exact.square().mean()) < 0.1


@pytest.mark.parametrize("killed_at", [1, 2, 3, 5])
def test_a_killed_run_goes_on_to_the_same_histograms(tmp_path: Path, killed_at: int) -> None:
    source = batches(stripes(24), PREPROCESSING, CONFIG)
    whole = calibrate(network(), source, CONFIG)
    with pytest.raises(KilledError):
        calibrate(network(), Interrupted(source, killed_at), CONFIG, work=tmp_path)
    assert (tmp_path / STATE).exists() == (killed_at >= 2)
    first_batches = []

    class Counting:
        fingerprint = source.fingerprint

        def starting_at(self, batch: int) -> Iterator[object]:
            first_batches.append(batch)
            return source.starting_at(batch)

        def __iter__(self) -> Iterator[object]:
            return self.starting_at(0)

    resumed = calibrate(network(), Counting(), CONFIG, work=tmp_path)
    assert same(whole, resumed)
    assert first_batches == [killed_at // 2 * 2]
    # Once complete, another method needs no images.
    other = CONFIG.model_copy(update={"method": "minmax"})
    again = calibrate(network(), Interrupted(source, 0), other, work=tmp_path)
    assert again.tensors["relu1"].range == pytest.approx(again.tensors["relu1"].maximum)
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


def test_workers_and_seed_decide_what_they_should() -> None:
    photos = stripes(24)
    one = calibrate(network(), batches(photos, PREPROCESSING, CONFIG), CONFIG)
    workers = CONFIG.model_copy(update={"workers": 2})
    assert same(one, calibrate(network(), batches(photos, PREPROCESSING, workers), workers))
    few = CONFIG.model_copy(update={"images": 6})
    first, second = (calibrate(network(), batches(photos, PREPROCESSING, few), few) for _ in range(2))
    assert first.images == 6
    assert same(first, second)
    other = few.model_copy(update={"seed": 1})
    assert not same(first, calibrate(network(), batches(photos, PREPROCESSING, other), other))


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    source = batches(stripes(8), PREPROCESSING, CONFIG)
    calibrate(network(), source, CONFIG, work=tmp_path)
    with pytest.raises(QuantizeError, match=r"calibration\.pt: belongs to a calibration with other weights"):
        calibrate(network(seed=1), source, CONFIG, work=tmp_path)
    with pytest.raises(QuantizeError, match="other data"):
        calibrate(network(), batches(stripes(12), PREPROCESSING, CONFIG), CONFIG, work=tmp_path)
    calibrate(network(seed=1), source, CONFIG, work=tmp_path, resume=False)
    (tmp_path / STATE).write_bytes(b"nothing of the kind")
    with pytest.raises(QuantizeError, match=r"calibration\.pt: cannot be read as a saved state"):
        calibrate(network(), source, CONFIG, work=tmp_path)


def test_what_cannot_be_calibrated() -> None:
    with pytest.raises(QuantizeError, match="at least one image"):
        calibrate(network(), [], CONFIG)
    with pytest.raises(QuantizeError, match="float images"):
        calibrate(network(), [torch.zeros(1, 3, 8, 8, dtype=torch.uint8)], CONFIG)
    broken = network()
    with torch.no_grad():
        broken.layers()["conv2"].weight[1, 0, 0, 0] = torch.nan
    with pytest.raises(QuantizeError, match="relu2: a value is NaN"):
        calibrate(broken, batches(stripes(8), PREPROCESSING, CONFIG), CONFIG)
    assert all(quantizer.observer is None for quantizer in broken.activation_quantizers().values())


def test_plain_tensors_will_do() -> None:
    report = calibrate(network(), [torch.randn(3, 3, 8, 8), (torch.randn(2, 3, 8, 8), torch.zeros(2))], CONFIG)
    assert report.images == 5


def test_histograms_are_kept_in_fewer_bins() -> None:
    source = [torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))]
    report = calibrate(network(), source, CalibrationConfig(batch=4, workers=0, bins=1024))
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["schema"] == schemas.CALIBRATION
    for name, observer in report.observers.items():
        tensor, histogram = document["tensors"][name], document["tensors"][name]["histogram"]
        counts, width = np.array(histogram["counts"]), histogram["width"]
        assert counts.sum() + observer.zeros + observer.negatives == observer.total == tensor["values"]
        assert len(counts) == 128 * (1 + observer.signed)
        assert histogram["start"] == (-128 * width if observer.signed else 0)
        assert width == 8 * observer.width
        filled = np.flatnonzero(counts)
        if tensor["maximum"] > 0:
            last = histogram["start"] + (filled[-1] + 1) * width
            assert last - width <= tensor["maximum"] <= last


def test_histograms_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = calibrate(network(), batches(stripes(8), PREPROCESSING, CONFIG), CONFIG)
    report.save_png(tmp_path / "histograms.png")
    assert (tmp_path / "histograms.png").read_bytes()[:4] == b"\x89PNG"
