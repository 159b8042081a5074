"""The file format of a bundle: a zip of NumPy arrays, one of which is a JSON document."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nybble.backends.cuda.proof.program import Program
from nybble.backends.errors import EngineError
from nybble.files import Kind, write
from nybble.graph.types import Array

#: Version of the format. Other versions of nybble may have another one.
FORMAT = 1
#: Maximum size of a bundle, in bytes.
MOST_BYTES = 40 << 20
BUNDLE = Kind("a bundle for a GPU", lambda head: head.startswith(b"PK"))


@dataclass(frozen=True)
class Bundle:
    """Everything that is needed to test a GPU.

    Attributes
    ----------
    about : mapping
        Values for JSON: network, photos, version of nybble, hash of the kernels' source.
    cubins : mapping
        Machine code by architecture, such as 75.
    programs : mapping
        ``cases``, ``network`` and ``speed``: lists of programs.
    arrays : mapping
        Bytes by the names that programs use.
    """

    about: Mapping[str, Any]
    cubins: Mapping[int, bytes]
    programs: Mapping[str, list[Program]]
    arrays: Mapping[str, Array]

    def encode(self) -> bytes:
        """The file's content."""
        document = {
            "format": FORMAT,
            "about": dict(self.about),
            "programs": {kind: [one.document() for one in found] for kind, found in self.programs.items()},
        }
        members = {"document": np.frombuffer(json.dumps(document).encode(), np.uint8)}
        members |= {f"cubin{arch}": np.frombuffer(code, np.uint8) for arch, code in self.cubins.items()}
        members |= self.arrays
        file = io.BytesIO()
        np.savez_compressed(file, **members)  # type: ignore[arg-type]
        return file.getvalue()

    def save(self, path: Path) -> int:
        """Write the file and return its size. Raises :class:`EngineError` if it exceeds the limit."""
        content = self.encode()
        if len(content) > MOST_BYTES:
            raise EngineError(
                f"{path}: the bundle would have {len(content) / 2**20:.1f} MiB; the limit is {MOST_BYTES >> 20} MiB; "
                "use fewer photos (--limit) or architectures (--arch)"
            )
        write(path, content, BUNDLE)
        return len(content)

    @classmethod
    def load(cls, path: Path) -> Bundle:
        """Read a file. Raises :class:`EngineError` naming it if it is not a bundle, or has another format."""
        try:
            with np.load(path, allow_pickle=False) as file:
                members = {name: np.array(file[name]) for name in file.files}
            document = json.loads(members.pop("document").tobytes())
        except (OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile) as error:
            raise EngineError(f"{path}: is not a bundle of `nybble gpu bundle`: {error}") from error
        if document.get("format") != FORMAT:
            raise EngineError(
                f"{path}: is a bundle of format {document.get('format')}, but this version reads format {FORMAT}; make "
                "it with the same version of nybble"
            )
        cubins = {int(name[5:]): members.pop(name).tobytes() for name in list(members) if name.startswith("cubin")}
        programs = {kind: [Program.of(one) for one in found] for kind, found in document["programs"].items()}
        return cls(document["about"], cubins, programs, members)

    def cubin_for(self, arch: int) -> bytes:
        """Machine code for a GPU. Raises :class:`EngineError` if the bundle has none."""
        able = [known for known in self.cubins if known // 10 == arch // 10 and known <= arch]
        if not able:
            known = ", ".join(f"sm_{one}" for one in sorted(self.cubins))
            raise EngineError(f"the bundle has code for {known}, not for sm_{arch}; make it with --arch sm_{arch}")
        return self.cubins[max(able)]
