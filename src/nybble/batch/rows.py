"""Rows of a job's results, and the files they are written to."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nybble.batch.errors import BatchError


@dataclass(frozen=True)
class Row:
    """The result for one photo.

    Attributes
    ----------
    index : int
        Its number in the input.
    file : str
    error : str or None
        Why it could not be used; the rest is then empty.
    labels, names, scores : sequence
        The best classes, best first; scores are softmax probabilities.
    embedding : sequence of float or None
        Where embeddings are wanted.
    answer : mapping or None
        For a network that does not classify, the answer by its task, in the form of ``nybble predict --json``.
    """

    index: int
    file: str
    error: str | None = None
    labels: Sequence[int] = field(default_factory=tuple)
    names: Sequence[str] = field(default_factory=tuple)
    scores: Sequence[float] = field(default_factory=tuple)
    embedding: Sequence[float] | None = None
    answer: Mapping[str, Any] | None = None

    def answer_text(self) -> str | None:
        """The answer as JSON."""
        return None if self.answer is None else json.dumps(self.answer, ensure_ascii=False)


class Format(ABC):
    """A kind of file for rows. The same rows give the same bytes.

    With ``answers`` rows have one column ``answer`` in place of those of classes.
    """

    suffix: str

    def __init__(self, answers: bool = False) -> None:
        self.answers = answers

    @abstractmethod
    def encode(self, rows: Sequence[Row], top: int, embeddings: bool) -> bytes:
        """A file of rows; ``top`` classes each, with embeddings or without."""

    @abstractmethod
    def errors(self, path: Path) -> int:
        """The number of rows of a file with an error. Raises the reader's exceptions if it is not such a file."""


class Parquet(Format):
    """Columns ``index``, ``file``, ``error``, ``label``, ``name``, ``score`` (lists), ``embedding`` (list of float).

    ``answer`` is JSON.
    """

    suffix = ".parquet"

    def encode(self, rows: Sequence[Row], top: int, embeddings: bool) -> bytes:
        """Compressed by Zstandard, all rows in one group."""
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        columns: dict[str, tuple[Any, list[Any]]] = {
            "index": (arrow.int64(), [row.index for row in rows]),
            "file": (arrow.string(), [row.file for row in rows]),
            "error": (arrow.string(), [row.error for row in rows]),
        }
        if self.answers:
            columns["answer"] = (arrow.string(), [row.answer_text() for row in rows])
        else:
            columns["label"] = (arrow.list_(arrow.int32()), [list(row.labels) for row in rows])
            columns["name"] = (arrow.list_(arrow.string()), [list(row.names) for row in rows])
            columns["score"] = (arrow.list_(arrow.float64()), [list(row.scores) for row in rows])
        if embeddings:
            columns["embedding"] = (arrow.list_(arrow.float32()), [row.embedding for row in rows])
        table = arrow.table({name: arrow.array(values, kind) for name, (kind, values) in columns.items()})
        sink = io.BytesIO()
        parquet.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    def errors(self, path: Path) -> int:
        """From the column ``error``."""
        import pyarrow.parquet as parquet

        column = parquet.read_table(path, columns=["error"]).column(0)
        return len(column) - int(column.null_count)


class JsonLines(Format):
    """One JSON object per line, with the fields of :class:`Row`."""

    suffix = ".jsonl"

    def encode(self, rows: Sequence[Row], top: int, embeddings: bool) -> bytes:
        """A line for each row."""
        lines = []
        for row in rows:
            entry: dict[str, Any] = {"index": row.index, "file": row.file, "error": row.error}
            if self.answers:
                entry["answer"] = row.answer
            else:
                entry |= {"label": list(row.labels), "name": list(row.names), "score": list(row.scores)}
            if embeddings:
                entry["embedding"] = None if row.embedding is None else list(row.embedding)
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
        return "".join(lines).encode()

    def errors(self, path: Path) -> int:
        """From the field ``error``."""
        with path.open(encoding="utf-8-sig") as file:
            return sum(json.loads(line)["error"] is not None for line in file)


class Csv(Format):
    """Columns ``index``, ``file``, ``error``; then ``label_1``, ``name_1``, ``score_1``, ..., or ``answer`` as JSON."""

    suffix = ".csv"

    def encode(self, rows: Sequence[Row], top: int, embeddings: bool) -> bytes:
        """With a header."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        if self.answers:
            writer.writerow(["index", "file", "error", "answer"])
            writer.writerows([row.index, row.file, row.error or "", row.answer_text() or ""] for row in rows)
            return sink.getvalue().encode()
        places = [f"{column}_{place}" for place in range(1, top + 1) for column in ("label", "name", "score")]
        writer.writerow(["index", "file", "error", *places])
        for row in rows:
            found = [value for each in zip(row.labels, row.names, row.scores, strict=True) for value in each]
            padding = [""] * (3 * top - len(found))
            writer.writerow([row.index, row.file, row.error or "", *found, *padding])
        return sink.getvalue().encode()

    def errors(self, path: Path) -> int:
        """From the column ``error``."""
        with path.open(encoding="utf-8-sig", newline="") as file:
            return sum(bool(row["error"]) for row in csv.DictReader(file))


_FORMATS: dict[str, type[Format]] = {"parquet": Parquet, "jsonl": JsonLines, "csv": Csv}
#: The names of the kinds of files.
FORMATS = tuple(_FORMATS)


def format_named(name: str, *, embeddings: bool, answers: bool = False) -> Format:
    """The kind of file of a name, for rows of classes or of answers.

    Raises :class:`BatchError` where there is none, or it holds no embeddings.
    """
    if name not in _FORMATS:
        raise BatchError(f"--format {name}: is not one of {', '.join(FORMATS)}")
    if embeddings and name == "csv":
        raise BatchError("--embeddings: a CSV file has no lists; use --format parquet or jsonl")
    return _FORMATS[name](answers)
