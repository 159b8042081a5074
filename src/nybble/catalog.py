"""The models that exist: those that ship with nybble, those that can be fetched, and those in the cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nybble import models, published
from nybble.cache import cache_folder
from nybble.published import Measured

#: The file beside a bundled model with the facts that a list shows.
CARD = "card.json"


@dataclass(frozen=True)
class Figure:
    """The accuracy of a model that is not a classifier: the metric of its task, as a share, and the photos it is of."""

    metric: str
    share: float
    photos: str


@dataclass(frozen=True)
class Listed:
    """A model in the list.

    Attributes
    ----------
    name, description : str
    source : str
        ``bundled``, ``published`` (can be fetched) or ``cache`` (another folder there, of an older version of nybble).
    path : Path or None
        Where it lies; ``None`` where it has not been fetched, or is missing from the installation.
    size : int
        Bytes of its files; of an ensemble, of its members' too.
    top1 : Measured or None
    license : str or None
    figure : Figure or None
        In place of ``top1`` where the model is not a classifier.
    """

    name: str
    description: str
    source: str
    path: Path | None
    size: int
    top1: Measured | None
    license: str | None
    figure: Figure | None = None

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON; accuracy as a share, with the counts."""
        top1 = None if self.top1 is None else {"share": self.top1.right / self.top1.of, **asdict(self.top1)}
        figure = None if self.figure is None else asdict(self.figure)
        return {**vars(self), "path": None if self.path is None else str(self.path), "top1": top1, "figure": figure}


def listed() -> list[Listed]:
    """All models that have a name: bundled ones first, then published ones, then others in the cache."""
    bundled = [_bundled(name) for name in models.NETWORKS]
    members = sum(network.size for network in bundled if network.name in models.CLASSIFIERS)
    cascade = _bundled(models.CASCADE, members)
    return [*bundled, cascade, *map(_published, published.available()), *_others()]


def _bundled(name: str, members: int = 0) -> Listed:
    place = models.bundled(name)
    if place is None:
        return Listed(name, "missing from this installation; install nybble again", "bundled", None, 0, None, None)
    folder = place if place.is_dir() else place.parent
    card = json.loads((folder / CARD).read_text("utf-8"))
    size = _size(folder / "model") if place.is_dir() else place.stat().st_size
    top1 = Measured(**card["top1"]) if "top1" in card else None
    figure = Figure(**card["figure"]) if "figure" in card else None
    return Listed(name, card["description"], "bundled", place, size + members, top1, card["license"], figure)


def _published(name: str) -> Listed:
    manifest = published.read_manifest(name)
    place = published.cached(name)
    return Listed(name, manifest.description, "published", place, manifest.size, manifest.top1, manifest.license)


def _others() -> list[Listed]:
    known = published.available()
    folder = cache_folder()
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [entry for entry in entries if (entry / "model" / "model").is_file() and entry.name not in known]
    return [
        Listed(entry.name, "not one that this version knows", "cache", entry, _size(entry), None, None)
        for entry in found
    ]


def _size(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
