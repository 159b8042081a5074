"""The parts of a page: sections with charts and the tables of their figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nybble.report.drawing import Chart
from nybble.report.numbers import Cell, Number

#: The title of the column with the folder or file of a row.
FROM = "source"


@dataclass(frozen=True)
class Table:
    """Figures; ``key`` names the file they are written to."""

    key: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.key}: {len(row)} cells in {len(self.columns)} columns")

    def is_number(self, column: int) -> bool:
        """Whether a column is one of numbers."""
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, Number) for cell in cells)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    key, title : str
    intro : str
        How to read it.
    charts : sequence of Chart
    tables : sequence of Table
        Shown in full where ``open_tables``, else unfolded on demand.
    legend : sequence of (str, str)
        Colours by name, and what they stand for.
    warnings, notes : sequence of str
    """

    key: str
    title: str
    intro: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    legend: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    open_tables: bool = False


def table(key: str, caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell]]]) -> Table:
    """A table whose rows come with labels; the labels are a column where there are any.

    Columns in which no row has anything are left out.
    """
    listed = [(label or None, *cells) for label, cells in rows]
    named = (FROM, *columns)
    kept = [place for place in range(len(named)) if any(row[place] is not None for row in listed)]
    filled = [[row[place] for place in kept] for row in listed]
    return Table(key, caption, [named[place] for place in kept], filled)


def titled(what: str, label: str) -> str:
    """A title, with the label where there is one."""
    return f"{what}, {label}" if label else what


def name_of(path: str) -> str:
    """The last part of a path, or the text itself."""
    return path.rstrip("/").rsplit("/", 1)[-1] or path
