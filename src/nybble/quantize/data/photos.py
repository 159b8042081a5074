"""Labelled photos by number, wherever they are stored: the one interface that calibration and training read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from nybble.graph.types import Array
from nybble.images import LeftOutPhoto
from nybble.quantize.errors import QuantizeError


class Photos(ABC):
    """A sequence of encoded photos with names and labels.

    Reading is safe in several threads, and in processes that were forked.
    """

    #: Names of the classes, by label; empty where unknown.
    classes: tuple[str, ...] = ()
    #: Whether photos are turned upright as their EXIF orientation says; by default they are as torchvision reads them.
    exif: bool = False
    #: Standard deviation of normal noise, in samples of 0 to 255, that loaders add to make the input of a denoiser.
    noise: float = 0.0
    #: Files that were found beside the photos and are not photos, or have no class.
    left_out: tuple[LeftOutPhoto, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of photos."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of a photo, for reports: unique, relative to where the photos lie."""

    @abstractmethod
    def label(self, index: int) -> int | None:
        """Class of a photo, ``None`` where it has none."""

    @abstractmethod
    def read(self, index: int) -> bytes | Array:
        """A photo's file content, or uint8 samples (H, W, 3) or (H, W).

        Raises
        ------
        OSError
            If it cannot be read any more.
        """

    @property
    def labelled(self) -> bool:
        """Whether every photo has a label."""
        return all(self.label(index) is not None for index in range(len(self)))

    @property
    def fingerprint(self) -> str:
        """A digest of names and labels in order, by which a resumed run checks that the data are the same."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            digest.update(f"{self.name(index)}\0{self.label(index)}\n".encode())
        if self.exif:
            digest.update(b"upright")
        if self.noise:
            digest.update(f"noise {self.noise!r}".encode())
        return digest.hexdigest()


class MemoryPhotos(Photos):
    """Photos that are in memory already.

    Parameters
    ----------
    photos : sequence of bytes or ndarray
        Encoded files, or uint8 samples (H, W, 3) or (H, W).
    labels : sequence of int, optional
    names : sequence of str, optional
        By default the numbers.
    """

    def __init__(
        self, photos: Sequence[bytes | Array], labels: Sequence[int] | None = None, names: Sequence[str] | None = None
    ) -> None:
        for what, values in (("labels", labels), ("names", names)):
            if values is not None and len(values) != len(photos):
                raise QuantizeError(f"{len(values)} {what} for {len(photos)} photos")
        self._photos = photos
        self._labels = labels
        self._names = names

    def __len__(self) -> int:
        return len(self._photos)

    def name(self, index: int) -> str:
        """Name of a photo."""
        return str(index) if self._names is None else self._names[index]

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return None if self._labels is None else int(self._labels[index])

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        return self._photos[index]


class Subset(Photos):
    """Some photos of others, in the order given."""

    def __init__(self, photos: Photos, indices: Sequence[int]) -> None:
        self.photos = photos
        self.indices = [int(index) for index in indices]
        self.classes, self.exif, self.left_out = photos.classes, photos.exif, photos.left_out
        self.noise = photos.noise

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """Name of a photo."""
        return self.photos.name(self.indices[index])

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return self.photos.label(self.indices[index])

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        return self.photos.read(self.indices[index])


class Relabelled(Subset):
    """The same photos with other labels: ``numbers`` by the label they have, or none at all."""

    def __init__(self, photos: Photos, numbers: Sequence[int] | None, classes: Sequence[str] = ()) -> None:
        super().__init__(photos, range(len(photos)))
        self.classes = tuple(classes)
        self._numbers = numbers

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        label = self.photos.label(index)
        return None if label is None or self._numbers is None else self._numbers[label]


def every(photos: Photos, step: int, *, rest: bool = False) -> Subset:
    """The photos whose number is a multiple of ``step``; with ``rest``, all the others."""
    return Subset(photos, [index for index in range(len(photos)) if (index % step == 0) is not rest])


def draw(photos: Photos, count: int, seed: int = 0) -> Subset:
    """``count`` photos (or all) drawn without replacement; the same ones under the same seed."""
    chosen = np.random.default_rng(seed).permutation(len(photos))[:count]
    return Subset(photos, chosen.tolist())


def split(photos: Photos, share: float, seed: int = 0) -> tuple[Subset, Subset]:
    """Two parts, the second with ``share`` of each class, drawn under ``seed``; each in the original order.

    Raises
    ------
    QuantizeError
        If a part would be empty.
    """
    groups: dict[int | None, list[int]] = {}
    for index in range(len(photos)):
        groups.setdefault(photos.label(index), []).append(index)
    random = np.random.default_rng(seed)
    second: set[int] = set()
    # The remainder of rounding goes to the next class, so that the total is right even with one photo per class.
    owed = 0.0
    for label in sorted(groups, key=lambda value: -1 if value is None else value):
        owed += share * len(groups[label])
        taken = min(len(groups[label]), int(owed + 0.5))
        owed -= taken
        second.update(random.permutation(groups[label])[:taken].tolist())
    if not 0 < len(second) < len(photos):
        raise QuantizeError(f"{share:.3g} of {len(photos)} photos cannot be split off: one part would be empty")
    first = [index for index in range(len(photos)) if index not in second]
    return Subset(photos, first), Subset(photos, sorted(second))
