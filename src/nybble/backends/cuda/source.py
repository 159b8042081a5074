"""The kernels' source, which lies in ``native`` of a checkout and beside the package in a wheel."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nybble.backends.errors import EngineError

#: What NVRTC compiles, from the folder that its includes start at.
ENTRY = "gpu/kernels/all.cu"


def source_folder() -> Path:
    """The folder that :data:`ENTRY` and all includes are relative to. Raises :class:`EngineError` if it is absent."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "data", package.parents[1] / "native"):
        if (folder / ENTRY).is_file():
            return folder
    raise EngineError(f"the kernels' source is not in this installation: no {ENTRY} in {package / 'data'}")


def source_hash() -> str:
    """SHA-256 of the source of every kernel, in hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted((source_folder() / ENTRY).parent.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
