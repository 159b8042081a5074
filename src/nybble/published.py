"""Published models: which ones can be fetched, what they consist of, and which are in the user's cache.

A manifest ships with the package for each (``data/models/NAME.json``): where the files lie, and the size and SHA-256
of each. :mod:`nybble.fetch` downloads them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from nybble.cache import cache_folder
from nybble.graph.errors import NybbleError


class FetchError(NybbleError):
    """Raised if a model could not be fetched. What has arrived is kept, and the next fetch continues from there."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a model: its path inside the model's folder, its size in bytes and its SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Measured:
    """Accuracy as it was measured: photos of a set on which the likeliest class was the right one."""

    right: int
    of: int
    photos: str


@dataclass(frozen=True)
class Manifest:
    """What a published model consists of. ``base`` is the URL that the files' paths are relative to."""

    name: str
    description: str
    license: str
    homepage: str
    base: str
    files: tuple[RemoteFile, ...]
    top1: Measured | None = None

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def available() -> list[str]:
    """Names of the models that can be fetched."""
    names = (entry.name for entry in _folder().iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_manifest(name: str) -> Manifest:
    """The manifest of a model that can be fetched. Raises :class:`FetchError` on an unknown name."""
    if name not in available():
        raise FetchError(f"there is no published model {name!r}; known: {', '.join(available())}")
    fields = json.loads((_folder() / f"{name}.json").read_text("utf-8"))
    files = tuple(RemoteFile(path, entry["size"], entry["sha256"]) for path, entry in fields.pop("files").items())
    measured = fields.pop("top1", None)
    return Manifest(files=files, top1=Measured(**measured) if measured else None, **fields)


def cached(name: str) -> Path | None:
    """The folder of a model that was fetched before, or ``None``. Its files are not checked again."""
    folder = cache_folder() / name
    return folder if folder.is_dir() else None


def _folder() -> Path:
    return Path(__file__).parent / "data" / "models"
