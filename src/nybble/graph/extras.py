"""The optional files beside the layers: preprocessing, class names, format version."""

from __future__ import annotations

from collections.abc import Sequence

from nybble.graph.errors import GraphError, ModelFormatError
from nybble.graph.folder import ModelFolder
from nybble.graph.lines import LINE_END, LayerText, joined, split_lines
from nybble.graph.preprocessing import Preprocessing
from nybble.graph.types import DType
from nybble.graph.value_type import MAX_EXTENT

PREPROCESSING = "preprocessing"
CLASS_NAMES = "class_names"
FORMAT_VERSION = "format_version"
#: The newest version. A directory without the file is of version 1.
VERSION = 3


def read_version(folder: ModelFolder) -> int:
    """The version of the folder. Raises :class:`ModelFormatError` if it is later than :data:`VERSION`."""
    if not folder.has(FORMAT_VERSION):
        return 1
    file = folder.layer(FORMAT_VERSION)
    if file.kind != "FormatVersion":
        raise file.error(f"must be of type FormatVersion, found {file.kind!r}")
    version = file.integer("version", 1, 1 << 30)
    if version > VERSION:
        raise file.error(f"version {version} is newer than {VERSION}, the newest this nybble reads", "version")
    file.finish()
    return version


def write_version(version: int) -> bytes:
    """The bytes of ``format_version``."""
    text = LayerText("FormatVersion")
    text.add("version", version)
    return text.encode()


def read_preprocessing(folder: ModelFolder) -> Preprocessing | None:
    """The folder's preprocessing, ``None`` if it has no such file. Raises :class:`ModelFormatError`."""
    if not folder.has(PREPROCESSING):
        return None
    file = folder.layer(PREPROCESSING)
    if file.kind != "Preprocessing":
        raise file.error(f"must be of type Preprocessing, found {file.kind!r}")
    dtype = file.text("input_type")
    if dtype not in DType.__members__.values():
        raise file.error(f"unknown input_type {dtype[:40]!r}", "input_type")
    crop = file.pair("crop")
    fit = file.text("fit") if file.has("fit") else "crop"
    size = min(crop) if fit != "crop" else file.integer("resize", 1, MAX_EXTENT)
    try:
        preprocessing = Preprocessing(
            resize=size,
            crop=(crop.rows, crop.columns),
            interpolation=file.text("interpolation"),
            mean=file.numbers("mean"),
            std=file.numbers("std"),
            input_type=DType(dtype),
            scale_numerator=file.number("scale_numerator"),
            scale_denominator=file.number("scale_denominator"),
            channel_order=file.text("channel_order") if file.has("channel_order") else "RGB",
            fit=fit,
            fill=file.integer("fill", 0, 255) if file.has("fill") else None,
            placement=file.text("placement") if file.has("placement") else None,
        )
    except GraphError as error:
        raise file.error(error.message, error.field) from error
    file.finish()
    return preprocessing


def write_preprocessing(preprocessing: Preprocessing) -> bytes:
    """The bytes of ``preprocessing``; numbers are written so that they read back exactly."""
    text = LayerText("Preprocessing")
    if preprocessing.fit == "crop":
        text.add("resize", preprocessing.resize)
    text.add("crop", joined(preprocessing.crop))
    text.add("interpolation", preprocessing.interpolation)
    text.add("mean", joined(map(float, preprocessing.mean)))
    text.add("std", joined(map(float, preprocessing.std)))
    text.add("input_type", preprocessing.input_type)
    text.add("scale_numerator", float(preprocessing.scale_numerator))
    text.add("scale_denominator", float(preprocessing.scale_denominator))
    # Without these keys the file is one that version 1 knows.
    if preprocessing.channel_order != "RGB":
        text.add("channel_order", preprocessing.channel_order)
    if preprocessing.fit != "crop":
        text.add("fit", preprocessing.fit)
    if preprocessing.fit == "letterbox":
        text.add("fill", preprocessing.fill)
        text.add("placement", preprocessing.placement)
    return text.encode()


def preprocessing_version(preprocessing: Preprocessing | None) -> int:
    """The version of the model directory that a preprocessing needs."""
    if preprocessing is None or (preprocessing.channel_order == "RGB" and preprocessing.fit == "crop"):
        return 1
    return 3


def read_class_names(folder: ModelFolder) -> tuple[str, ...] | None:
    """The folder's class names, one per line, ``None`` if it has no such file. Raises :class:`ModelFormatError`."""
    if not folder.has(CLASS_NAMES):
        return None
    names = split_lines(folder.text(CLASS_NAMES))
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise ModelFormatError(folder.path / CLASS_NAMES, "the class name is empty", line=number)
    return tuple(names)


def write_class_names(names: Sequence[str]) -> bytes:
    """The bytes of ``class_names``."""
    return "".join(name + LINE_END for name in names).encode()
