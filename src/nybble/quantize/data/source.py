"""Which kind of photos a path names."""

from __future__ import annotations

import re
from pathlib import Path

from nybble.images.collection import list_in
from nybble.quantize.data.archives import ShardPhotos, ZipPhotos
from nybble.quantize.data.folders import FilePhotos
from nybble.quantize.data.photos import Photos
from nybble.quantize.errors import QuantizeError

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000


def open_photos(path: str | Path, *, exif: bool = False) -> Photos:
    """Open photos by what lies at ``path``.

    ========================================  =============================================================
    a folder that holds ``*.tar``             :class:`ShardPhotos`, in order of name
    ``NAME-{000..009}.tar``, ``NAME.tar``     :class:`ShardPhotos`
    ``NAME.zip``                              :class:`ZipPhotos`: one folder per class, or no labels
    any other folder, or a list               :class:`FilePhotos`, see :func:`nybble.images.open_photos`
    ========================================  =============================================================

    Parameters
    ----------
    path : str or Path
    exif : bool
        Whether photos are turned upright as their EXIF orientation says; by default they are read as torchvision does.

    Raises
    ------
    QuantizeError
        For an archive that cannot be read.
    ImageError
        If nothing is there, no photo is found, or a list cannot be right.
    """
    place = Path(path)
    kind = place.suffix.lower()
    photos: Photos
    if place.is_dir():
        shards = [] if list_in(place) is not None else sorted(place.glob("*.tar"))
        photos = ShardPhotos(shards) if shards else FilePhotos(place)
    elif kind == ".zip" and place.is_file():
        photos = ZipPhotos(place)
    elif kind == ".tar":
        photos = ShardPhotos(_shards(place))
    else:
        photos = FilePhotos(place)
    photos.exif = exif
    return photos


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
