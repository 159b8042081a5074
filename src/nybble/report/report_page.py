"""``report.html``: the measurements of nybble on one self-contained page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from nybble.files import CSV, HTML, FileError, write_text
from nybble.report.drawing import WIDE, WIDTH, Chart, inline, require_matplotlib, write_chart
from nybble.report.errors import ReportError
from nybble.report.numbers import Number
from nybble.report.page import has_jinja, render
from nybble.report.sections import Section, Table, disturbed, facts, sections
from nybble.report.sections.section import name_of
from nybble.report.source import MAKERS, Material

_TEMPLATE = "report_page.html.j2"
#: Networks that the heading names.
_NAMES = 3
#: The sections that each of ``MAKERS`` fills.
_FILLS = {
    "speed and memory": "throughput",
    "the roofline": "roofline",
    "accuracy": "accuracy",
    "time of each layer": "layers",
    "calibration": "calibration",
    "ensembles": "ensembles",
    "MLPerf scenarios": "scenarios",
}


def check_installed() -> None:
    """Raise :class:`ReportError` where a package is missing that pages are made with."""
    if not has_jinja():
        raise ReportError("the page is made with Jinja, which is not installed: pip install 'nybble[report]'")
    require_matplotlib()


def render_report(material: Material, made: str) -> str:
    """The page as text.

    Parameters
    ----------
    material : Material
    made : str
        The date that it says.

    Raises
    ------
    ReportError
        Where Jinja or Matplotlib is not installed.
    """
    import nybble

    check_installed()
    found = sections(material)
    shown = {section.key for section in found}
    whole = set(_whole(found))
    return render(
        _TEMPLATE,
        {},
        heading=_heading(material),
        labels=[source.label for source in material.sources],
        made=made,
        warnings=list(disturbed(material)),
        version=nybble.__version__,
        facts=[(source.label, figures) for source in material.sources if (figures := facts(source))],
        sections=found,
        pictures={chart.key: _pictures(chart, chart.key in whole) for section in found for chart in section.charts},
        whole=whole,
        sources=material.sources,
        missing=[(what, command) for what, command in MAKERS.items() if _FILLS[what] not in shown],
    )


def write_report(path: Path, material: Material, made: str) -> None:
    """Write the page, whole or not at all. Raises :class:`ReportError` and :class:`FileError`."""
    write_text(path, render_report(material, made), HTML)


def write_figures(folder: Path, material: Material) -> Iterator[Path]:
    """Write every chart as PNG and SVG and every table as CSV; gives each file once it is there.

    Raises
    ------
    ReportError
        Where Matplotlib is not installed.
    FileError
    """
    require_matplotlib()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror or error}") from error
    for section in sections(material):
        for chart in section.charts:
            yield from write_chart(chart, folder / chart.key)
        yield from _tables(folder, section)


def _heading(material: Material) -> str:
    """The networks, and the machines that they were measured on; the folders where the files say neither."""
    networks = [
        *(bench.record.network for bench in material.benches),
        *(found.record.model for found in material.evaluations),
        *(found.record.model for found in material.profiles),
        *(found.record.source for found in material.quantizations),
        *(entry.record.run.request.name for entry in material.scenarios if entry.record.run is not None),
    ]
    machines = [
        *(bench.record.machine.cpu for bench in material.benches),
        *(entry.record.description.get("host_processor_model_name") for entry in material.scenarios),
    ]
    named = list(dict.fromkeys(name_of(name) for name in networks if name))
    if not named:
        return ", ".join(source.label for source in material.sources)
    shown = ", ".join(named[:_NAMES]) + (f" and {len(named) - _NAMES} more" if len(named) > _NAMES else "")
    places = list(dict.fromkeys(str(cpu) for cpu in machines if cpu))
    return f"{shown} on {' and '.join(places)}" if places else shown


def _whole(found: Sequence[Section]) -> Iterator[str]:
    """Keys of the charts as wide as the page: those that gain by it, and those that have no neighbour."""
    for section in found:
        alone: str | None = None
        for chart in section.charts:
            if chart.resizes:
                if alone is not None:
                    yield alone
                yield chart.key
                alone = None
            else:
                alone = chart.key if alone is None else None
        if alone is not None:
            yield alone


def _pictures(chart: Chart, whole: bool) -> list[object]:
    from markupsafe import Markup

    # Markup that this package has made, with every text in it escaped.
    if not whole:
        return [Markup(inline(chart, WIDTH))]  # noqa: S704
    narrow, roomy = inline(chart, WIDTH, "-narrow"), inline(chart, WIDE, "-roomy")
    return [Markup(f'<div class="narrow">{narrow}</div>'), Markup(f'<div class="roomy">{roomy}</div>')]  # noqa: S704


def _tables(folder: Path, section: Section) -> Iterator[Path]:
    for table in section.tables:
        path = folder / f"{table.key}.csv"
        write_text(path, _csv(table), CSV)
        yield path


def _csv(table: Table) -> str:
    """A table in full precision, in the units of the files: seconds, bytes, shares of 1."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(column.strip() for column in table.columns)
    for row in table.rows:
        writer.writerow("" if cell is None else repr(cell.value) if isinstance(cell, Number) else cell for cell in row)
    return sink.getvalue()
