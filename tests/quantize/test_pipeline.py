"""What a run decides before it starts: preprocessing, photos, defaults. The command's tests run the whole."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pydantic
import pytest
import tiny_networks
from PIL import Image
from torch import nn

from nybble.graph import Preprocessing
from nybble.quantize.data import MemoryPhotos
from nybble.quantize.errors import QuantizeError
from nybble.quantize.pipeline import PipelineConfig, PreprocessingConfig
from nybble.quantize.pipeline.preprocessing import preprocessing_of_source
from nybble.quantize.pipeline.report import decibels
from nybble.quantize.pipeline.selection import check_classes, choose_photos

NOTHING = PreprocessingConfig()


@pytest.mark.parametrize(
    ("source", "resize", "crop", "interpolation"),
    [
        ("torchvision:resnet50", 256, 224, "bilinear"),
        ("torchvision:resnet50@somewhere/resnet50-11ad3fa6.pth", 232, 224, "bilinear"),
        ("torchvision:efficientnet_b0@mine.pth", 256, 224, "bicubic"),
        ("torchvision:inception_v3", 342, 299, "bilinear"),
    ],
)
def test_torchvision_says_how_it_reads_photos(source: str, resize: int, crop: int, interpolation: str) -> None:
    found = preprocessing_of_source(source, nn.Identity(), NOTHING)
    assert (found.resize, found.crop, found.interpolation) == (resize, (crop, crop), interpolation)
    assert found == Preprocessing(resize=resize, crop=(crop, crop), interpolation=interpolation)


def test_a_module_may_say_it_and_the_configuration_wins() -> None:
    module = nn.Identity()
    module.preprocessing = tiny_networks.PREPROCESSING
    assert preprocessing_of_source("package:make", module, NOTHING) is tiny_networks.PREPROCESSING
    changed = preprocessing_of_source("package:make", module, PreprocessingConfig(crop=(6, 6)))
    assert (changed.resize, changed.crop, changed.mean) == (6, (6, 6), tiny_networks.PREPROCESSING.mean)


def test_what_nobody_says_is_assumed_aloud() -> None:
    with pytest.warns(UserWarning, match="package:make does not state its preprocessing.*--crop"):
        assert preprocessing_of_source("package:make", nn.Identity(), NOTHING) == Preprocessing()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = preprocessing_of_source("package:make", nn.Identity(), PreprocessingConfig(crop=(32, 32)))
    assert (found.resize, found.crop) == (32, (32, 32))


def test_the_inputs_scale_covers_black_and_white() -> None:
    config = PreprocessingConfig(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    found = config.applied(Preprocessing())
    assert found.scale_numerator / found.scale_denominator == pytest.approx(127 / (128 / 128))
    assert PreprocessingConfig.of(found).applied(Preprocessing()) == found
    with pytest.raises(QuantizeError, match=r"preprocessing\.std"):
        PreprocessingConfig(std=(0.2, 0.2)).applied(Preprocessing())


def test_defaults_follow_the_photos_where_nothing_is_said() -> None:
    small, large = Preprocessing(resize=32, crop=(32, 32)), Preprocessing()
    resolved = PipelineConfig(seed=3).resolved(small, 50)
    assert (resolved.training.batch, resolved.training.augmentation.crop, resolved.training.augmentation.padding) == (
        50,
        "pad",
        4,
    )
    assert resolved.calibration.images is None
    assert {resolved.calibration.seed, resolved.training.seed, resolved.reconstruction.seed} == {3}
    resolved = PipelineConfig.parse("training: {batch: 32, accumulate: 2, seed: 9}").resolved(large, 5000)
    assert (resolved.training.batch, resolved.training.augmentation.crop, resolved.training.seed) == (32, "resized", 9)
    assert resolved.calibration.images == 1000
    assert PipelineConfig.parse("calibration: {images: null}").resolved(large, 5000).calibration.images is None
    # What was resolved stays as it is: the file beside a result repeats the run.
    again = PipelineConfig.parse(resolved.dump()).resolved(large, 10)
    assert again == resolved


@pytest.mark.parametrize(
    "text",
    [
        "{bits: mixed, min_accuracy: 70, speed: 2}",
        "{bits: w4a4, speed: 2}",
        "{bits: mixed, speed: 2, layers: {conv: {weight_bits: 8}}}",
        "{selection_share: 1}",
    ],
)
def test_settings_that_contradict_each_other(text: str) -> None:
    with pytest.raises(QuantizeError, match=r"settings\.yaml"):
        PipelineConfig.parse(text, "settings.yaml")
    with pytest.raises(pydantic.ValidationError):
        PipelineConfig().speed = 2


def test_selection_photos_of_some_classes_keep_their_names(tmp_path: Path) -> None:
    for place in ("train/ant", "train/bee", "train/cow", "val/bee", "val/cow", "other/dog", "other/cow"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place / "1.png")
    chosen = choose_photos(tmp_path / "train", tmp_path / "val", PipelineConfig())
    assert [chosen.selection.label(index) for index in range(2)] == [1, 2]
    assert chosen.selection.classes == ("ant", "bee", "cow")
    with pytest.raises(QuantizeError, match=r"its class folders \(cow, dog\) are not those of"):
        choose_photos(tmp_path / "train", tmp_path / "other", PipelineConfig())


def test_labels_are_held_against_the_network() -> None:
    photos = MemoryPhotos([b""] * 3, [0, 2, 1])
    check_classes(photos, 3, Path("photos"), need="training")
    with pytest.raises(QuantizeError, match=r"photos: 1: label 2 is not in 0\.\.1"):
        check_classes(photos, 2, Path("photos"), need=None)
    unlabelled = MemoryPhotos([b""])
    check_classes(unlabelled, 2, Path("photos"), need=None)
    with pytest.raises(QuantizeError, match="has no label; training needs one"):
        check_classes(unlabelled, 2, Path("photos"), need="training")


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 0.0) == math.inf and decibels(0.0, 1.0) == -math.inf
