"""The photos of a run: those to calibrate and train with, and those on which everything is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from nybble.quantize.data import Photos, open_photos, split
from nybble.quantize.errors import QuantizeError
from nybble.quantize.pipeline.settings import PipelineConfig


class Chosen(NamedTuple):
    """Training photos, selection photos, and where the latter come from."""

    train: Photos
    selection: Photos
    origin: str


def choose_photos(images: Path, val: Path | None, config: PipelineConfig) -> Chosen:
    """Open the photos; without ``val`` a share of the training photos is split off, class by class.

    Raises
    ------
    QuantizeError
        If there are none, those to select on have no labels, or two folders have different classes.
    """
    train = open_photos(images)
    if val is not None:
        selection = open_photos(val)
        if train.classes and selection.classes and train.classes != selection.classes:
            raise QuantizeError(
                f"{val}: its class folders ({_some(selection.classes)}) are not those of {images} "
                f"({_some(train.classes)}), so the same number would mean two classes"
            )
        _check_labelled(selection, val)
        return Chosen(train, selection, str(val))
    _check_labelled(train, images)
    try:
        rest, held = split(train, config.selection_share, config.seed)
    except QuantizeError as error:
        raise QuantizeError(f"{images}: {error}; name photos to select on with --val") from error
    return Chosen(rest, held, f"{config.selection_share:.3g} of {images}, split off under seed {config.seed}")


def check_classes(photos: Photos, classes: int, where: Path, *, need_labels: bool) -> None:
    """Hold labels against the network's number of classes.

    Raises
    ------
    QuantizeError
        Naming the photo or the folders at fault.
    """
    if photos.classes and len(photos.classes) != classes:
        raise QuantizeError(
            f"{where}: has {len(photos.classes)} class folders, but the network has {classes} classes; with some "
            "classes only, list the photos with the network's numbers in a labels.csv (file,label)"
        )
    for index in range(len(photos)):
        label = photos.label(index)
        if label is None:
            if need_labels:
                raise QuantizeError(f"{where}: {photos.name(index)} has no label; fine-tuning needs one for each photo")
        elif not 0 <= label < classes:
            raise QuantizeError(
                f"{where}: {photos.name(index)}: label {label} is not in 0..{classes - 1}, the network's classes"
            )


def _check_labelled(photos: Photos, where: Path) -> None:
    if not photos.labelled:
        raise QuantizeError(
            f"{where}: the photos have no labels, so accuracy cannot be measured on them; give a folder a class, a "
            "labels.csv, or labelled photos with --val"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
