"""The photos of a run: those to calibrate and train with, and those to select on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nybble.images import ImageWarning
from nybble.images.errors import some
from nybble.images.names import match_classes
from nybble.quantize.data import Photos, Relabelled, open_photos, split
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
        If there are none, labels are missing that the configuration needs, or two folders have different classes.
    """
    train = _opened(images, config)
    need = needed_labels(config)
    if val is not None:
        selection = _opened(val, config)
        if selection.classes and set(selection.classes) < set(train.classes):
            # Of some of the classes only; the names say which.
            numbers = [train.classes.index(name) for name in selection.classes]
            selection = Relabelled(selection, numbers, train.classes)
        if train.classes and selection.classes and train.classes != selection.classes:
            raise QuantizeError(
                f"{val}: its class folders ({some(selection.classes)}) are not those of {images} "
                f"({some(train.classes)}), so the same number would mean two classes"
            )
        _check_labelled(train, images, need.train)
        _check_labelled(selection, val, need.selection)
        return Chosen(train, selection, str(val))
    _check_labelled(train, images, need.train or need.selection)
    try:
        rest, held = split(train, config.selection_share, config.seed)
    except QuantizeError as error:
        if not config.training.epochs and len(train):
            # Nothing is learned, so the same photos can measure.
            return Chosen(train, train, f"all of {images}, which calibrate too: they are too few to split")
        raise QuantizeError(f"{images}: {error}; name photos to select on with --val") from error
    return Chosen(rest, held, f"{config.selection_share:.3g} of {images}, split off under seed {config.seed}")


class Needed(NamedTuple):
    """The parts that need labels of the training photos, and of the selection photos; ``None`` if there are none."""

    train: str | None
    selection: str | None


def needed_labels(config: PipelineConfig) -> Needed:
    """What needs labels under a configuration. All else works without them, except that accuracy is not measured."""
    # Distillation alone follows the float network's answers.
    training = config.training.epochs > 0 and config.training.distillation < 1
    tuned = (
        "fine-tuning (leave it out with --epochs 0, or train along the float network with --distil)"
        if training
        else None
    )
    # With a task the float network's answers stand for labels.
    by_accuracy = config.has_budget and config.mixed.criterion == "accuracy" and config.task is None
    criterion = "mixed.criterion=accuracy" if by_accuracy else None
    budget = "--min-accuracy" if config.min_accuracy is not None else None
    return Needed(tuned or criterion, tuned or budget)


def _opened(path: Path, config: PipelineConfig) -> Photos:
    photos = open_photos(path, exif=config.exif)
    photos.noise = config.noise or 0.0
    return photos


def fit_labels(photos: Photos, classes: int | Sequence[str], where: Path, need: str | None) -> Photos:
    """Photos whose labels are the network's classes: class folders and other names by name or in order.

    Parameters
    ----------
    photos : Photos
    classes : int or sequence of str
        The network's class names, or their number.
    where : Path
    need : str, optional
        The part that needs labels. Without one, names that do not match are dropped with a warning.

    Raises
    ------
    QuantizeError
        Naming the photo or the folders at fault.
    """
    if photos.classes:
        numbers = match_classes(photos.classes, classes)
        if isinstance(numbers, str):
            if need is not None:
                raise QuantizeError(f"{where}: {numbers}")
            # From one place, so that photos to train on and to select on of one folder warn once.
            warnings.warn(f"{where}: {numbers}; labels are not used", ImageWarning, stacklevel=1)
            return Relabelled(photos, None)
        if numbers != list(range(len(numbers))) or (not isinstance(classes, int) and len(classes) != len(numbers)):
            return Relabelled(photos, numbers, () if isinstance(classes, int) else classes)
    check_classes(photos, classes if isinstance(classes, int) else len(classes), where, need=need)
    return photos


def check_classes(photos: Photos, classes: int, where: Path, *, need: str | None) -> None:
    """Check labels against the network's number of classes.

    Raises
    ------
    QuantizeError
        Naming the photo at fault.
    """
    for index in range(len(photos)):
        label = photos.label(index)
        if label is None:
            if need is not None:
                raise QuantizeError(f"{where}: {photos.name(index)} has no label; {need} needs one for each photo")
        elif not 0 <= label < classes:
            raise QuantizeError(
                f"{where}: {photos.name(index)}: label {label} is not in 0..{classes - 1}, the network's classes"
            )


def _check_labelled(photos: Photos, where: Path, need: str | None) -> None:
    if need is not None and not photos.labelled:
        raise QuantizeError(
            f"{where}: the photos have no labels, which are needed for {need}; give a folder per class, a labels.csv, "
            "or a list of lines `file label`"
        )
