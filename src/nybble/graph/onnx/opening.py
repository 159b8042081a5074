"""Opens files of unknown origin: only regular files, of a bounded size."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.writer import MAX_BYTES

__all__ = ["MAX_BYTES", "open_regular"]


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file of at most ``MAX_BYTES``.

    Parameters
    ----------
    path : Path
    follow : bool
        Whether the path may be a symbolic link.

    Raises
    ------
    OnnxImportError
        If it cannot be opened, is not a regular file, or is larger.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would hang.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        file = os.fdopen(os.open(path, flags), "rb")
    except IsADirectoryError:
        raise OnnxImportError("is not a regular file", path=path) from None
    except OSError as error:
        if not follow and error.errno == errno.ELOOP:
            raise OnnxImportError("is a symbolic link; copy the file it names in its place", path=path) from None
        raise OnnxImportError(f"cannot be read: {error.strerror or error}", path=path) from error
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise OnnxImportError("is not a regular file", path=path)
    if status.st_size > MAX_BYTES:
        file.close()
        raise OnnxImportError(f"is larger than the {MAX_BYTES} bytes an ONNX file may have", path=path)
    return file
