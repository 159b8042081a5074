"""Replaces a directory by a finished one, completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nybble.graph.errors import NybbleError


@contextmanager
def replacing(target: Path, is_replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when the block ends without an error.

    After an error, including a full disk, ``target`` is unchanged and the folder is removed.

    Parameters
    ----------
    target : Path
        Absent, an empty folder, or a folder that ``is_replaceable`` accepts.
    is_replaceable : callable
        Called with a folder that is not empty.

    Raises
    ------
    NybbleError
        If ``target`` is something else, or on any ``OSError``.
    """
    # The folder behind a link is replaced, not the link.
    target = Path(os.path.realpath(target))
    try:
        if os.path.lexists(target) and not _is_free(target) and not is_replaceable(target):
            raise NybbleError(f"{target}: exists already and is not a model folder; name another place, or remove it")
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            # mkdtemp's own folder is private; this one has the usual permissions.
            new = work / "new"
            new.mkdir()
            yield new
            _exchange(new, target, work / "old")
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise NybbleError(f"{target}: cannot be written: {error.strerror or error}") from error


def _is_free(target: Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


def _exchange(new: Path, target: Path, old: Path) -> None:
    existed = target.exists()
    if existed:
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if existed:
            old.rename(target)
        raise
