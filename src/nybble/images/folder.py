"""Folders with a ``labels.csv``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nybble.images.collection import LABELS, PhotoFiles, located
from nybble.images.errors import ImageError
from nybble.images.listing import read_rows


class LabelledFolder(PhotoFiles):
    """The photos of a folder that its ``labels.csv`` lists, in its order; :func:`open_photos` takes other forms too.

    The file is UTF-8 with a header that has at least ``file`` (relative to the folder) and ``label`` (an integer from
    0 on).

    Parameters
    ----------
    path : str or Path
    limit : int, optional
        Only the first so many rows.
    classes : int, optional
        Labels must be smaller.

    Raises
    ------
    ImageError
        Naming the file and line, for a missing folder or file, a header, row or label that cannot be right, a file
        listed twice or outside the folder.
    """

    def __init__(self, path: str | Path, limit: int | None = None, *, classes: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        folder = Path(path)
        if not folder.is_dir():
            raise ImageError(folder, "is not a folder")
        table = folder / LABELS
        rows = read_rows(table, headed=True)[:limit]
        photos = located(table, folder, rows, inside=True)
        for place, row in enumerate(rows):
            label = row.label
            if not isinstance(label, int):
                raise ImageError(table, f"label {label or ''!r} is not an integer from 0 on", line=row.line)
            if classes is not None and label >= classes:
                raise ImageError(table, f"label {label} is not in 0..{classes - 1}", line=row.line)
            photos[place] = replace(photos[place], label=label)
        super().__init__(folder, photos)
