"""Arguments of commands that name a model and photos: files, folders, patterns and standard input."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from nybble.cli.errors import CommandError, WrongUsageError

if TYPE_CHECKING:
    from nybble.images import LeftOut

#: Standard input.
STDIN = "-"


def split(arguments: list[str]) -> tuple[str | None, list[Path]]:
    """The model, if the first argument is one, and the photos or folders of them.

    The first argument is a model if it is the name of one, or a model folder. It is taken as one, and will be reported
    as missing, if nothing of that name exists, other arguments follow, and its suffix is not that of a photo.

    Raises
    ------
    WrongUsageError
        For an empty argument, or the name of a model behind photos.
    """
    from nybble.images.kinds import has_photo_suffix
    from nybble.models import names

    if "" in arguments:
        raise WrongUsageError("an argument is empty; name photos, or folders of photos")
    first, *rest = arguments
    for name in names():
        if name in rest and not Path(name).exists():
            raise WrongUsageError(f"{name} is a model; name it before the photos")
    path = Path(first)
    try:
        is_model = first in names() or _is_model(path.expanduser())
        is_meant = bool(rest) and not path.exists() and not has_photo_suffix(path.name)
    except (OSError, RuntimeError):  # A name too long, or a folder that may not be read: the photos' error says so.
        is_model = is_meant = False
    if is_model or is_meant:
        return first, [Path(image) for image in rest]
    return None, [Path(image) for image in arguments]


def photos_named(named: list[Path], left_out: LeftOut) -> list[Path]:
    """The photos that several arguments name, as :func:`photos_in`; of several, those that name nothing are left out.

    Raises
    ------
    CommandError
        As :func:`photos_in`.
    """
    found: list[Path] = []
    for path in named:
        try:
            found += photos_in(path)
        except MissingError as error:
            if len(named) == 1:
                raise
            left_out.add(str(path), error.reason)
    return found


class MissingError(CommandError):
    """A file that is not there, or a pattern that fits none."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def photos_in(path: Path) -> list[Path]:
    """The photo itself, the photos in a folder and its subfolders, or those that fit a pattern, in order of name.

    A pattern is that of :mod:`glob`, with ``**`` for folders at any depth, where no file has its name. Files that are
    not photos, although their names do not tell, are included: they are reported as left out. ``-`` is itself.

    Raises
    ------
    CommandError
        Where there is no such file, no photo in the folder, or the folder is a model's.
    """
    from nybble.images.scan import scan

    try:
        if str(path) == STDIN:
            return [path]
        if not path.is_dir():
            return [path] if path.exists() else _fitting(path)
        if _is_model(path):
            raise WrongUsageError(f"{path}: is a model folder; name the model before the photos")
        found = scan(path)
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not found.files:
        raise CommandError(f"{path}: is not a model folder, and holds no photos")
    return sorted(path / name for name in (*(name for name, _ in found.files), *(file for file, _ in found.left_out)))


def _fitting(pattern: Path) -> list[Path]:
    """The files that fit a pattern, and the photos of folders that do."""
    text = str(pattern)
    if not glob.has_magic(text):
        raise MissingError(pattern, "there is no such file")
    found = sorted(Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207 - of any pattern
    folders = {path for path in found if path.is_dir()}
    files = [path for path in found if path not in folders]
    # With `**` the files of a folder fit as well as the folder itself.
    if not files:
        files = [photo for path in sorted(folders) for photo in photos_in(path)]
    if not files:
        raise MissingError(pattern, "no file fits this pattern")
    return files


def _is_model(path: Path) -> bool:
    from nybble.graph.reading import is_model_file
    from nybble.models import is_ensemble

    return (
        is_ensemble(path)
        or is_model_file(path)
        or (path.is_dir() and any((path / place).is_file() for place in ("model", "model/model")))
    )
