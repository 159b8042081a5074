"""How photos become a source's input, where the source says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from nybble.graph import Preprocessing
from nybble.quantize.errors import QuantizeError
from nybble.quantize.pipeline.settings import PreprocessingConfig


def preprocessing_of_source(source: str, module: nn.Module, config: PreprocessingConfig) -> Preprocessing:
    """What the configuration says, on top of what the source says.

    A module says it by an attribute ``preprocessing``; torchvision by the transforms that it lists with its weights:
    those of the file's name, else those of the network's first weights. Any other module is taken to read photos as
    ImageNet's networks do, with a warning unless the configuration names a crop.

    Raises
    ------
    QuantizeError
        If the configuration makes no sense.
    """
    named, _, weights = source.partition("@")
    package, _, name = named.partition(":")
    base = getattr(module, "preprocessing", None)
    if not isinstance(base, Preprocessing):
        base = _torchvision(name, weights) if package == "torchvision" else None
    if base is None:
        base = Preprocessing()
        if config.crop is None:
            warnings.warn(
                f"{named} does not say how it reads photos: taken are {base.resize} pixels on the short side, a crop "
                f"of {base.crop[0]}, ImageNet's mean and deviation; --resize, --crop, --mean and --std, or an "
                "attribute `preprocessing` of the module, say otherwise",
                stacklevel=2,
            )
    return config.applied(base)


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
