"""Photos in folders: a ``labels.csv``, a folder a class, or neither."""

from __future__ import annotations

from pathlib import Path

from nybble.graph.types import Array
from nybble.images import LabelledFolder
from nybble.quantize.data.photos import SUFFIXES, Photos
from nybble.quantize.errors import QuantizeError


class CsvPhotos(Photos):
    """A folder with a ``labels.csv``; see :class:`nybble.images.LabelledFolder`."""

    def __init__(self, path: str | Path) -> None:
        self._folder = LabelledFolder(path)

    def __len__(self) -> int:
        return len(self._folder)

    def name(self, index: int) -> str:
        """Name of a photo."""
        return self._folder[index].file

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return self._folder[index].label

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        return self._folder[index].path.read_bytes()


class ClassFolders(Photos):
    """A folder a class (torchvision's ``ImageFolder``): classes numbered by name, photos below each in order of name.

    A folder without such subfolders is taken as photos without labels. Hidden files are passed over.
    """

    def __init__(self, path: str | Path) -> None:
        root = Path(path)
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        found = {name: _photos(root / name) for name in folders}
        # A folder with no photo at all is not a class, as it is an error in torchvision.
        self.classes = tuple(name for name in folders if found[name])
        if self.classes:
            self._files = [(file, label) for label, name in enumerate(self.classes) for file in found[name]]
        else:
            self._files = [(file, None) for file in _photos(root)]
        if not self._files:
            raise QuantizeError(f"{root}: holds no photos ({', '.join(sorted(SUFFIXES))}), nor folders of them")
        self._root = root

    _files: list[tuple[Path, int | None]]

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        """Name of a photo."""
        return self._files[index][0].relative_to(self._root).as_posix()

    def label(self, index: int) -> int | None:
        """Class of a photo."""
        return self._files[index][1]

    def read(self, index: int) -> bytes | Array:
        """A photo's content."""
        return self._files[index][0].read_bytes()


def _photos(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    return sorted(file for file in files if file.is_file())
