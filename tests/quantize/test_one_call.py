"""``nybble.quantize``: one call gives what the steps one by one give."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import nybble
from nybble.graph import Preprocessing
from nybble.quantize import CalibrationConfig, QuantizeConfig, QuantizeError, calibrate, convert, prepare

INPUT = Preprocessing(resize=16, crop=(16, 16))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(5)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 6)
    )
    made.preprocessing = INPUT  # type: ignore[assignment]
    return made.eval()


@pytest.fixture(scope="module")
def photos() -> list[Any]:
    return list(np.random.default_rng(1).integers(0, 256, (20, 18, 22, 3), dtype=np.uint8))


def same(first: nybble.Engine, second: nybble.Engine, photos: list[Any]) -> bool:
    batch = first.preprocess(photos)
    return np.array_equal(first(batch), second(batch))


def test_the_same_as_step_by_step(module: nn.Module, photos: list[Any]) -> None:
    before = [parameter.clone() for parameter in module.parameters()]
    engine = nybble.quantize(module, photos, bits="w4a8")
    network = prepare(module, (3, 16, 16), QuantizeConfig(bits="w4a8"), INPUT)
    normalised = torch.from_numpy(INPUT.normalise(engine.preprocess(photos))).permute(0, 3, 1, 2)
    calibrate(network, [normalised[:16], normalised[16:]])
    assert same(engine, nybble.Engine(convert(network)[0]), photos)
    assert all(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))


def test_every_form_of_photos(module: nn.Module, photos: list[Any], tmp_path: Path) -> None:
    for index, samples in enumerate(photos):
        Image.fromarray(samples).save(tmp_path / f"{index:02}.png")
    expected = nybble.quantize(module, photos)
    files = sorted(tmp_path.glob("*.png"))
    settings = QuantizeConfig(calibration=CalibrationConfig(workers=0))
    for form in (iter(photos), files, (Image.open(file) for file in files), np.stack(photos)):
        assert same(nybble.quantize(module, form), expected, photos)
    # In another order, which histograms do not show.
    assert same(nybble.quantize(module, tmp_path, config=settings), expected, photos)
    assert same(nybble.quantize(module, photos[:5]), nybble.quantize(module, iter(photos), limit=5), photos)


def test_an_onnx_file_and_a_folder_to_write(module: nn.Module, photos: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from nybble.graph.onnx import write_float_model

    float_file, out = tmp_path / "float.onnx", tmp_path / "out"
    write_float_model(nybble.quantize(module, photos, bits="w8a8").graph, float_file)
    engine = nybble.quantize(float_file, photos, bits="w8a8", preprocessing=INPUT, out=out, threads=1)
    assert engine.threads == 1
    assert same(pickle.loads(pickle.dumps(engine)), engine, photos)
    assert same(nybble.load(out), engine, photos)


def test_what_is_refused(module: nn.Module, photos: list[Any], tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="bits='w2a2': choose from w4a4, w4a8, w8a8, mixed"):
        nybble.quantize(module, photos, bits="w2a2")
    with pytest.raises(QuantizeError, match="there are no photos to calibrate with"):
        nybble.quantize(module, [])
    with pytest.raises(QuantizeError, match="one photo is not enough"):
        nybble.quantize(module, photos[0])
    with pytest.raises(QuantizeError, match="is quantized already; name the float network"):
        nybble.quantize("efficientnet-lite0", photos)


def test_the_package_is_still_a_package() -> None:
    import nybble.quantize as package

    assert package is nybble.quantize
    assert package.prepare is prepare
