"""The preprocessing of a source, as far as the source states it."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from nybble.graph import Preprocessing
from nybble.quantize.errors import QuantizeError
from nybble.quantize.pipeline.settings import PreprocessingConfig
from nybble.quantize.sources.onnx import OnnxModule

#: Standard deviations of noise that the input's range has room for.
_DEVIATIONS = 4


def preprocessing_of_source(source: str, module: nn.Module, config: PreprocessingConfig) -> Preprocessing:
    """The preprocessing of the source, with the settings of the configuration.

    A module states it by an attribute ``preprocessing``, torchvision by the transforms of its weights: those of the
    file's name, else those of the network's first weights. Other modules get the preprocessing of ImageNet's networks,
    with a warning unless the configuration names a crop. An ONNX file states the channels, and mostly rows and columns;
    there is no warning if the configuration names mean and deviation.

    Raises
    ------
    QuantizeError
        If the configuration is not valid, or makes images of another size than the file takes.
    """
    if isinstance(module, OnnxModule):
        return _onnx(source, module, config)
    named, _, weights = source.partition("@")
    package, _, name = named.partition(":")
    base = getattr(module, "preprocessing", None)
    if not isinstance(base, Preprocessing):
        base = _torchvision(name, weights) if package == "torchvision" else None
    if base is None:
        base = Preprocessing()
        if config.crop is None:
            warnings.warn(
                f"{named} does not state its preprocessing; assuming {base.resize} pixels on the short side, a crop of "
                f"{base.crop[0]}, ImageNet's mean and deviation; to change it, give --resize, --crop, --mean and "
                "--std, or the module an attribute `preprocessing`",
                stacklevel=2,
            )
    return config.applied(base)


def with_noise(preprocessing: Preprocessing, noise: float, config: PreprocessingConfig) -> Preprocessing:
    """With room in the input's range for noise of a standard deviation, of samples to 255; unless a range is set."""
    if config.input_range is not None:
        return preprocessing
    room = _DEVIATIONS * noise / 255 / min(preprocessing.std)
    reach = preprocessing.scale_denominator / preprocessing.scale_numerator * preprocessing.input_type.maximum
    scale = round((reach + room) / preprocessing.input_type.maximum * 127.0, 4)
    return dataclasses.replace(preprocessing, scale_numerator=127.0, scale_denominator=scale)


def _onnx(source: str, module: OnnxModule, config: PreprocessingConfig) -> Preprocessing:
    usual = Preprocessing()
    # ImageNet's, or for gray photos its average.
    mean, std = ((values if module.channels == 3 else (sum(values) / 3,)) for values in (usual.mean, usual.std))
    size = module.image_size or usual.crop
    # 256 for 224, as usual.
    resize = round(max(size) * usual.resize / usual.crop[0])
    base = Preprocessing(resize=resize, crop=size, mean=mean, std=std)
    if config.mean is None or config.std is None:
        warnings.warn(
            f"{source} does not state its preprocessing; assuming {resize} pixels on the short side, a crop of "
            f"{size[0]}x{size[1]}, ImageNet's mean and deviation; to change it, give --resize, --crop, --mean and "
            "--std",
            stacklevel=3,
        )
    chosen = config.applied(base)
    if module.image_size is not None and chosen.crop != module.image_size:
        raise QuantizeError(
            f"{source}: takes images of {size[0]}x{size[1]} pixels, so they cannot be cropped to "
            f"{chosen.crop[0]}x{chosen.crop[1]}"
        )
    if len(chosen.mean) != module.channels:
        raise QuantizeError(
            f"{source}: takes images of {module.channels} channels, but {len(chosen.mean)} means are given"
        )
    return chosen


def _torchvision(name: str, weights: str) -> Preprocessing | None:
    from torchvision import models

    try:
        entries = list(models.get_model_weights(name))
    except ValueError:
        return None
    file = Path(weights).name
    named = [entry for entry in entries if file and str(entry.url).endswith(f"/{file}")]
    for entry in (*named, *entries):
        transforms: Any = entry.transforms()
        try:
            crop, resize = transforms.crop_size[0], transforms.resize_size[0]
            return PreprocessingConfig(
                resize=resize,
                crop=(crop, crop),
                interpolation=transforms.interpolation.value,
                mean=tuple(transforms.mean),
                std=tuple(transforms.std),
            ).applied(Preprocessing())
        except (AttributeError, QuantizeError):
            continue
    return None
