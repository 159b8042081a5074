"""``nybble report``: what was measured, on one page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.errors import CommandError
from nybble.cli.model import Json
from nybble.cli.output import plural, print_json


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of results, shown beside each other.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("report.html"),
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            help="Also write each picture as PNG and SVG and each table as CSV here.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what nybble measured on one page: speed, accuracy, memory, layers, calibration, MLPerf.

    A DIR holds, under any names, what `bench --output`, `evaluate --json`, `profile --json`, `quantize --report` and
    `mlperf run --out` wrote. The page needs no network and follows light or dark; its numbers are those of the files.
    """
    from nybble.files import HTML, check_free
    from nybble.report import read_material, write_figures, write_report
    from nybble.report.report_page import check_installed

    check_free(out, HTML)
    if figures is not None and figures.exists() and not figures.is_dir():
        raise CommandError(f"{figures}: exists already and is not a folder")
    check_installed()
    material = read_material(folders)
    write_report(out, material, datetime.now(UTC).date().isoformat())
    written = [] if figures is None else list(write_figures(figures, material))
    if as_json:
        sources = [
            {"label": source.label, "records": len(source.records), "left_out": list(source.ignored)}
            for source in material.sources
        ]
        print_json({"page": str(out), "sources": sources, "figures": [str(path) for path in written]})
        return
    for source in material.sources:
        scenarios = f", {plural(len(source.scenarios), 'MLPerf scenario')}" if source.scenarios else ""
        typer.echo(f"{source.label}: {plural(len(source.records), 'file')} of nybble{scenarios}")
        if source.ignored:
            few = ", ".join(source.ignored[:5]) + (", ..." if len(source.ignored) > 5 else "")
            typer.echo(f"{source.label}: {plural(len(source.ignored), 'file')} left out: {few}")
    if figures is not None:
        typer.echo(f"figures  {plural(len(written), 'file')} in {figures}")
    typer.echo(f"page     {out}")
