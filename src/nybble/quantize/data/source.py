"""Which kind of photos a path names."""

from __future__ import annotations

import re
from pathlib import Path

from nybble.quantize.data.archives import ShardPhotos, ZipPhotos
from nybble.quantize.data.folders import ClassFolders, CsvPhotos
from nybble.quantize.data.photos import Photos
from nybble.quantize.errors import QuantizeError

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000


def open_photos(path: str | Path) -> Photos:
    """Open photos by what lies at ``path``.

    ========================================  =====================================================
    a folder with ``labels.csv``              :class:`CsvPhotos`
    a folder that holds ``*.tar``             :class:`ShardPhotos`, in order of name
    ``NAME-{000..009}.tar``, ``NAME.tar``     :class:`ShardPhotos`
    any other folder                          :class:`ClassFolders`: a folder a class, or no labels
    ``NAME.zip``                              :class:`ZipPhotos`: a folder a class, or no labels
    ========================================  =====================================================

    Raises
    ------
    QuantizeError
        If nothing is there, or it is none of these.
    ImageError
        For a ``labels.csv`` that cannot be right.
    """
    place = Path(path)
    if place.is_dir():
        if (place / "labels.csv").is_file():
            return CsvPhotos(place)
        shards = sorted(place.glob("*.tar"))
        return ShardPhotos(shards) if shards else ClassFolders(place)
    kind = place.suffix.lower()
    if kind == ".zip" and place.is_file():
        return ZipPhotos(place)
    if kind == ".tar":
        return ShardPhotos(_shards(place))
    if not place.exists():
        raise QuantizeError(f"{place}: there is no such file or folder")
    raise QuantizeError(f"{place}: photos come from a folder, a .zip, or .tar shards, not from this")


def _shards(path: Path) -> list[Path]:
    match = _BRACES.search(path.name)
    if match is None:
        return [path]
    first, last = match.groups()
    if not int(first) <= int(last) < int(first) + _MOST_SHARDS:
        raise QuantizeError(f"{path}: {{{first}..{last}}} is not an ascending range of shards")
    numbers = range(int(first), int(last) + 1)
    width = len(first)
    return [path.with_name(_BRACES.sub(f"{number:0{width}d}", path.name, count=1)) for number in numbers]
