"""What commands print: tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

#: Columns of a table that goes into a file or a pipe, where no terminal sets a width.
_PIPE_WIDTH = 240
#: More columns than any table needs.
_UNLIMITED = 10_000


def print_json(value: Any, indent: int | None = 2) -> None:
    """One JSON document on standard output; NaN and infinity, which JSON lacks, are errors."""
    typer.echo(json_text(value, indent))


def json_text(value: Any, indent: int | None = 2) -> str:
    """A JSON document as standard output can show it."""
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, indent=indent, ensure_ascii=not is_unicode, allow_nan=False)
    # Bytes of a file name that are not UTF-8 become the escapes that JSON has for them.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def plural(count: int, what: str) -> str:
    """A number of things: ``1 photo``, ``2 photos``."""
    return f"{count} {what}{'s' * (count != 1)}"


def show_disturbance(taken: Mapping[str, float] | None) -> None:
    """Begin with a warning where others used the machine, by :func:`nybble.disturbance.disturbance`."""
    from nybble.disturbance import warning

    show_headline(warning(taken))


def show_headline(warning: str | None) -> None:
    """Begin with a warning, where there is one."""
    if warning is not None:
        typer.echo(f"WARNING   {warning}\n")


def is_quiet(taken: Mapping[str, float] | None) -> bool:
    """Whether the machine was quiet, as far as that is known."""
    from nybble.disturbance import is_disturbed

    return not is_disturbed(taken)


def print_table(grid: Table, lead: tuple[str, ...] = ()) -> None:
    """Print a table as it is: no markup, emoji or guessed colours in its cells.

    Cells of a table that is wider than the terminal are wrapped between words. Where that is not enough, the columns
    named in ``lead`` are printed on a line above the rest of their row. A table that is too wide even so is printed as
    one block of lines for each row.
    """
    from rich.console import Console
    from rich.measure import Measurement

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    if Measurement.get(console, console.options.update(width=_UNLIMITED), grid).minimum > console.width:
        console.print(_led(grid, lead, console.width) or _blocks(grid), soft_wrap=True)
    else:
        console.print(grid)


def _led(grid: Table, lead: tuple[str, ...], width: int) -> str:
    """A table with the columns of ``lead`` on a line above the rest of each row; empty where the rest is too wide."""
    from rich.cells import cell_len, set_cell_size

    columns = [[str(column.header), *map(str, column.cells)] for column in grid.columns]
    above = [column for column in columns if column[0] in lead]
    below = [(column, max(map(cell_len, column))) for column in columns if column[0] not in lead]
    is_plain = not any("\n" in cell for column in columns for cell in column)
    if not above or not is_plain or 2 * len(below) + sum(size for _, size in below) > width:
        return ""
    right = {str(column.header) for column in grid.columns if column.justify == "right"}

    def aligned(cell: str, size: int, is_right: bool) -> str:
        return " " * (size - cell_len(cell)) + cell if is_right else set_cell_size(cell, size)

    lines = [str(grid.title)] if grid.title else []
    for row in range(len(columns[0])):
        lines.append("  ".join(column[row] for column in above if column[row]))
        rest = "".join("  " + aligned(column[row], size, column[0] in right) for column, size in below).rstrip()
        lines += [rest] if rest else []
        if row == 0 or grid.rows[row - 1].end_section:
            lines.append("\u2500" * width)
    return "\n".join(lines)


def _blocks(grid: Table) -> str:
    """The rows of a table as lines ``column  value``, an empty line between two rows."""
    heads = [str(column.header).strip() for column in grid.columns]
    margin = max(map(len, heads))
    rows = zip(*(column.cells for column in grid.columns), strict=True)
    blocks = [
        "\n".join(
            f"{head.ljust(margin)}  {line}".rstrip()
            for head, cell in zip(heads, row, strict=True)
            for head, line in zip([head, *[""] * str(cell).count("\n")], str(cell).split("\n"), strict=True)
            if line
        )
        for row in rows
    ]
    return "\n\n".join([*([str(grid.title)] if grid.title else []), *blocks])


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in ``numbers`` are aligned to the right."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        result.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return result
