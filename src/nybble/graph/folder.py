"""The folder of a model. Reads its files without leaving the folder or trusting their size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nybble.graph.errors import ModelFormatError
from nybble.graph.lines import LayerFile, TensorReference
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType

#: The root file, and the folder's own name in ``!path`` lines.
ROOT = "model"
#: The folder of raw tensors that the writer makes.
DATA = "npdata"
#: Largest text file that is read; the published ones stay below 400 bytes, a graph takes about 40 a node.
MAX_TEXT = 4 << 20


class ModelFolder:
    """The folder ``model/``, found from a path to it or to the folder that holds it.

    Raises
    ------
    ModelFormatError
        If neither is there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self.path = given / ROOT if _is_directory(given / ROOT) else given
        self._inside: dict[str, bool] = {}
        self._layers: dict[str, LayerFile] = {}
        self._find(given)

    def _find(self, given: Path) -> None:
        """Check that there is a model."""
        if not _exists(self.path / ROOT):
            raise ModelFormatError(
                given,
                f"no model found: expected a folder {ROOT}/ with the root file {ROOT}/{ROOT}, or that folder itself; "
                "`nybble fetch nvidia-resnet50-int4` downloads one",
            )
        try:
            self._home = os.path.realpath(self.path, strict=True)
        except OSError as error:
            raise ModelFormatError(self.path, f"cannot be read: {error.strerror or error}") from error

    def has(self, name: str) -> bool:
        """Whether there is anything, a dangling link included, of that name."""
        return _exists(self.path / name)

    def text(self, name: str) -> str:
        """The UTF-8 text of a file of at most :data:`MAX_TEXT` bytes that lies directly in the folder."""
        path = self.path / name
        raw = self._read(path, MAX_TEXT)
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ModelFormatError(path, "is not UTF-8 text", line=line) from error

    def layer(self, name: str) -> LayerFile:
        """The parsed text file of that name; each file is read once."""
        if name not in self._layers:
            self._layers[name] = LayerFile(self.path / name, self.text(name))
        return self._layers[name]

    def tensor(self, layer: LayerFile, key: str, reference: TensorReference, shape: tuple[int, ...]) -> Tensor:
        """The tensor behind a reference, its values left in the file.

        Raises
        ------
        ModelFormatError
            Naming the line of the path where it leaves the folder, or the file is missing, no regular
            file, or not of the size that type and shape take.
        """
        line = layer.entries[key].line + 1
        parts = reference.path.split("/")
        is_inside = parts[0] == ROOT and len(parts) > 1 and not any(part in ("", ".", "..") for part in parts)
        # Other characters depend on the file system's encoding, or terminate a name.
        if not is_inside or not reference.path.isascii() or not reference.path.isprintable():
            raise ModelFormatError(
                layer.path,
                f"{key}: the path {reference.path[:80]!r} must start with {ROOT}/ and stay there, in ASCII",
                line=line,
            )
        path = self.path.joinpath(*parts[1:])
        try:
            return self._tensor(reference.dtype, shape, path)
        except ModelFormatError as error:
            raise ModelFormatError(layer.path, f"{key}: {reference.path} {error.message}", line=line) from error

    def files(self) -> list[str]:
        """Names of all files of the folder, in order, as they stand behind ``model/``; hidden ones are left out."""
        found = []
        for folder, folders, names in os.walk(self.path):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [str(Path(folder, name).relative_to(self.path)) for name in names if not name.startswith(".")]
        return sorted(found)

    def raw(self, name: str) -> bytes:
        """The bytes of a file of :meth:`files`."""
        return self._read(self.path / name, None)

    def _tensor(self, dtype: DType, shape: tuple[int, ...], path: Path) -> Tensor:
        self._check_inside(path)
        return Tensor.from_file(dtype, shape, path)

    def _read(self, path: Path, limit: int | None) -> bytes:
        """The bytes of a file; a :class:`ModelFormatError` where there are more than the limit."""
        self._check_inside(path)
        try:
            # Without O_NONBLOCK, opening a pipe that nobody writes to would hang.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ModelFormatError(path, "is not a regular file")
                is_small = limit is None or status.st_size <= limit
                raw = file.read(-1 if limit is None else limit + 1) if is_small else b""
        except OSError as error:
            raise _unreadable(path, error) from error
        if not is_small or (limit is not None and len(raw) > limit):
            raise ModelFormatError(path, f"is larger than the {limit} bytes a text file may have")
        return raw

    def _check_inside(self, path: Path) -> None:
        parent = str(path.parent)
        try:
            if parent not in self._inside:
                self._inside[parent] = self._contains(os.path.realpath(parent))
            inside = self._inside[parent]
            if inside and stat.S_ISLNK(os.lstat(path).st_mode):
                inside = self._contains(os.path.realpath(path, strict=True))
        except OSError as error:
            raise _unreadable(path, error) from error
        if not inside:
            raise ModelFormatError(path, "is a link that leaves the model folder; put the file itself there")

    def _contains(self, real: str) -> bool:
        return os.path.commonpath((real, self._home)) == self._home


def _unreadable(path: Path, error: OSError) -> ModelFormatError:
    if isinstance(error, FileNotFoundError):
        return ModelFormatError(path, "is missing")
    if isinstance(error, IsADirectoryError):
        return ModelFormatError(path, "is not a regular file")
    return ModelFormatError(path, f"cannot be read: {error.strerror or error}")


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
