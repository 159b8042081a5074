"""Where answers go, photo by photo: a table, one JSON document, JSON lines or CSV, printed or into a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from nybble.cli.errors import WrongUsageError
from nybble.cli.output import json_text

TABLE, JSON, JSONL, CSV = FORMATS = ("table", "json", "jsonl", "csv")

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="table, json (one document), jsonl (a line for each photo) or csv.",
        show_default="table, or the suffix of --output",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write the answers here, not to standard output.", show_default=False
    ),
]


def chosen_format(name: str | None, output: Path | None, as_json: bool, offered: tuple[str, ...] = FORMATS) -> str:
    """The format that options ask for.

    Raises
    ------
    WrongUsageError
        Where they contradict each other, or name none that the command has.
    """
    if as_json:
        if name not in (None, JSON):
            raise WrongUsageError(f"--json and --format {name} exclude each other")
        return JSON
    if name is None:
        name = TABLE if output is None else output.suffix.lower().removeprefix(".")
        if name not in offered:
            raise WrongUsageError(f"{output}: its suffix is that of no format; add --format {' or '.join(offered[1:])}")
    if name not in offered or (name == TABLE and output is not None):
        choices = offered if output is None else offered[1:]
        raise WrongUsageError(f"--format {name}: choose from {', '.join(choices)}")
    return name


@contextmanager
def lines_to(output: Path | None) -> Iterator[Callable[[str], None]]:
    """A function that writes a line to standard output, or to a file that appears when all is written."""
    if output is None:
        yield lambda line: typer.echo(line)
        return
    from nybble.files import Kind, writing

    # Of a file that begins otherwise, such as a photo, nothing may be lost.
    with writing(output, Kind("a file of answers", _is_answers)) as file:
        yield lambda line: print(line, file=file)


def csv_line(values: list[Any]) -> str:
    """A row of a CSV file, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def json_line(value: Any) -> str:
    """A JSON document on one line."""
    return json_text(value, indent=None)


def _is_answers(head: bytes) -> bool:
    return head.lstrip().startswith((b"{", b"file,"))
