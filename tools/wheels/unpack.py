"""Unpack a source distribution over an earlier one: ``unpack.py ARCHIVE FOLDER``.

Files that have not changed keep their times, which decide what is compiled again; what is no longer there is removed.
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> None:
    """Make the folder hold what the archive has below its one top folder."""
    kept = set()
    with tarfile.open(archive) as source:
        for member in source:
            data = source.extractfile(member)
            if data is None:
                continue
            path = folder.joinpath(*Path(member.name).parts[1:])
            kept.add(path)
            content = data.read()
            if path.is_file() and path.read_bytes() == content:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept:
            path.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: unpack.py ARCHIVE FOLDER")
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
