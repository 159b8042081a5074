"""Messages to and from the process that runs LoadGen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: A job that only measures how long batches take.
ESTIMATE = "estimate"


@dataclass(frozen=True)
class Job:
    """One run of LoadGen.

    Attributes
    ----------
    task : str
        ``performance``, ``accuracy`` or ``ESTIMATE``.
    model, samples : str
        Paths of the model folder, or the file of an ensemble, and of the prepared photos.
    shape : tuple of int
        Of the prepared photos: (N, H, W, C); of an ensemble whose members crop differently, (N, bytes).
    rows : tuple of int or None
        Where photos were left out: the rows of those that LoadGen may ask for, by its numbers.
    scenario : str
    threads, device
        As for ``nybble.Engine``.
    batch : int
        Photos that go through the engine together at most.
    settings : dict
        By the names of LoadGen's ``TestSettings``.
    performance_count : int
        Photos that LoadGen may keep in memory at a time.
    logs : str
        The folder for LoadGen's logs.
    most_late : int or None
        Server only: once more queries than this were late, the run ends with the answer ``late`` instead of logs.
    """

    task: str
    model: str
    samples: str
    shape: tuple[int, ...]
    scenario: str
    batch: int
    threads: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    performance_count: int = 0
    logs: str = ""
    most_late: int | None = None
    rows: tuple[int, ...] | None = None
    device: str = "cpu"

    def line(self) -> str:
        """The job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Job:
        """The inverse of :meth:`line`."""
        fields = json.loads(line)
        rows = fields.get("rows")
        return cls(**{**fields, "shape": tuple(fields["shape"]), "rows": None if rows is None else tuple(rows)})

    @property
    def photos(self) -> int:
        """Photos that LoadGen may ask for."""
        return self.shape[0] if self.rows is None else len(self.rows)

    @property
    def log_folder(self) -> Path:
        """The folder for LoadGen's logs."""
        return Path(self.logs)
