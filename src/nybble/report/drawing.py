"""Pictures: drawn once with Matplotlib, written as PNG and SVG, and embedded in pages that are light or dark.

Figures are as wide as a telephone in points, so that text keeps its size there. Colours are those of the light palette;
in a page each becomes the CSS variable of its name, and text takes the page's own typeface.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nybble import files
from nybble.report.errors import ReportError
from nybble.report.palette import DRAWN, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Widths in points: on a telephone, and where there is room.
WIDTH, WIDE = 330.0, 720.0
_SIZE, SMALL = 12.0, 10.5
_LINE = 15.0
#: Points that a letter takes on average, of text of size 1.
_LETTER = 0.56
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")
_OPTIONS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nybble",
    "font.family": "sans-serif",
    "hatch.linewidth": 1.2,
}


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes
    ----------
    key : str
        Its name in files and in the page; letters, digits and hyphens.
    title : str
    description : str
        A description in words, for screen readers.
    draw : callable
        Given a width in points, the figure.
    resizes : bool
        Whether it is drawn again for screens wider than a phone.
    """

    key: str
    title: str
    description: str
    draw: Callable[[float], Figure]
    resizes: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar from 0 to ``value``; ``low`` and ``high`` end a whisker, ``marks`` are ticks on it."""

    label: str
    value: float
    text: str
    colour: str
    low: float | None = None
    high: float | None = None
    marks: tuple[float, ...] = ()
    hollow: bool = False
    refused: bool = False


@dataclass(frozen=True)
class Dot:
    """A value with an interval."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str
    colour: str


def require_matplotlib() -> None:
    """Raise :class:`ReportError` where it is not installed; it is not imported."""
    if find_spec("matplotlib") is None:
        raise ReportError("pictures are drawn with Matplotlib, which is not installed: pip install 'nybble[report]'")


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose coordinates are points, counted from the upper left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def write(
    axes: Axes, x: float, y: float, text: str, colour: str = "ink", size: float = _SIZE, align: str = "left"
) -> None:
    """Text on a canvas; ``y`` is its base line. Nothing in it is taken for a formula."""
    text = text.translate(_CONTROL)
    axes.text(x, y, text, color=light(colour), fontsize=size, ha=align, va="baseline", parse_math=False)


def fits(text: str, room: float, size: float = _SIZE) -> str:
    """The text, cut short in its middle where it would need more than ``room`` points."""
    letters = max(8, int(room / (_LETTER * size)))
    if len(text) <= letters:
        return text
    head = (letters - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"


def _wrapped(label: str, text: str, width: float) -> list[str]:
    """A label in one line beside its value, or in two where it is long."""
    room = width - 10 - _LETTER * _SIZE * len(text)
    if _LETTER * _SIZE * len(label) <= room:
        return [label]
    words, first = label.split(" "), ""
    while words and _LETTER * _SIZE * len(f"{first} {words[0]}") <= room:
        first = f"{first} {words.pop(0)}".strip()
    if not first or not words:
        return [fits(label, room)]
    return [first, fits(" ".join(words), width)]


def _write_label(axes: Axes, y: float, label: Sequence[str], text: str, width: float, colour: str = "ink") -> float:
    """A label from its left and its value at the right; returns what further lines took."""
    for place, line in enumerate(label):
        write(axes, 0, y + 13 + place * _LINE, line)
    write(axes, width, y + 13, text, colour, align="right")
    return _LINE * (len(label) - 1)


def bar_chart(
    key: str, title: str, what: str, groups: Sequence[tuple[str, Sequence[Bar]]], limit: float | None = None
) -> Chart:
    """:func:`draw_bars` as a chart, in whose description ``Bars of WHAT`` is followed by every bar's label and text."""
    described = "; ".join(f"{bar.label} {bar.text}" for _, group in groups for bar in group)
    return Chart(key, title, f"Bars of {what}: {described}.", lambda width: draw_bars(groups, width, limit))


def draw_bars(groups: Sequence[tuple[str, Sequence[Bar]]], width: float, limit: float | None = None) -> Figure:
    """Horizontal bars, what each is and its value above it; ``limit`` is where the scale ends."""
    row, heading, bar, foot = 33.0, 24.0, 10.0, 4.0
    ends = [max(entry.value, entry.high or 0.0) for _, group in groups for entry in group if not entry.refused]
    scale = (width - 3) / (limit or max(ends, default=1.0) or 1.0)
    labels = [[_wrapped(entry.label, entry.text, width) for entry in group] for _, group in groups]
    extra = _LINE * sum(len(label) - 1 for group in labels for label in group)
    height = sum(len(group) * row + (heading if title else 0) for title, group in groups) + foot + extra
    figure, axes = canvas(width, height)
    y = 0.0
    for (title, group), lines in zip(groups, labels, strict=True):
        if title:
            write(axes, 0, y + 15, title, "soft", _SIZE)
            y += heading
        for entry, label in zip(group, lines, strict=True):
            y += _write_label(axes, y, label, entry.text, width, "wrong" if entry.refused else "ink")
            top = y + 18
            _rectangle(axes, 0, top, width, bar, face="track")
            if not entry.refused:
                _draw_bar(axes, entry, top, bar, scale)
            y += row
    return figure


def _draw_bar(axes: Axes, entry: Bar, top: float, height: float, scale: float) -> None:
    length = max(1.5, entry.value * scale)
    if entry.hollow:
        _rectangle(axes, 0.75, top + 0.75, length - 0.75, height - 1.5, face="card", edge=entry.colour)
    else:
        _rectangle(axes, 0, top, length, height, face=entry.colour)
    if entry.low is None or entry.high is None:
        return
    middle = top + height / 2
    ends = (entry.low * scale, entry.high * scale)
    # Of the ground's colour below, so that it is seen on the bar as well.
    for colour, wider in (("card", 2.4), ("ink", 0.0)):
        axes.plot(ends, (middle, middle), color=light(colour), linewidth=1.2 + wider, solid_capstyle="butt")
        for place in (*ends, *(mark * scale for mark in entry.marks)):
            axes.plot(
                (place, place),
                (top + 1 - wider / 4, top + height - 1 + wider / 4),
                color=light(colour),
                linewidth=1.2 + wider,
                solid_capstyle="butt",
            )


def draw_intervals(
    groups: Sequence[tuple[str, Sequence[Dot]]],
    width: float,
    ends: tuple[float, float],
    ticks: Sequence[tuple[float, str]],
    line: float | None = None,
) -> Figure:
    """Values with intervals over a scale from ``ends[0]`` to ``ends[1]``; ``line`` is a value to compare with."""
    row, heading, foot, side = 35.0, 24.0, 22.0, 8.0
    labels = [[_wrapped(entry.label, entry.text, width) for entry in group] for _, group in groups]
    extra = _LINE * sum(len(label) - 1 for group in labels for label in group)
    height = sum(len(group) * row + (heading if title else 0) for title, group in groups) + foot + extra
    figure, axes = canvas(width, height)

    def place(value: float) -> float:
        return side + (min(max(value, ends[0]), ends[1]) - ends[0]) / (ends[1] - ends[0]) * (width - 2 * side)

    y = 0.0
    tracks: list[float] = []
    for (title, group), lines in zip(groups, labels, strict=True):
        if title:
            write(axes, 0, y + 15, fits(title, width), "soft", _SIZE)
            y += heading
        for entry, label in zip(group, lines, strict=True):
            y += _write_label(axes, y, label, entry.text, width)
            middle = y + 24
            tracks.append(middle)
            _rectangle(axes, 0, middle - 6, width, 12, face="track")
            y += row
    for value, text in ticks:
        for middle in tracks:
            axes.plot((place(value),) * 2, (middle - 6, middle + 6), color=light("line"), linewidth=0.8)
        write(axes, place(value), y + 12, text, "soft", SMALL, "center")
    if line is not None:
        for middle in tracks:
            axes.plot((place(line),) * 2, (middle - 6, middle + 6), color=light("soft"), linewidth=1.4)
    for middle, entry in zip(tracks, (entry for _, group in groups for entry in group), strict=True):
        if entry.low is not None and entry.high is not None:
            span = (place(entry.low), place(entry.high))
            axes.plot(span, (middle, middle), color=light(entry.colour), linewidth=2.2, solid_capstyle="butt")
            for end in span:
                axes.plot((end, end), (middle - 4, middle + 4), color=light(entry.colour), linewidth=2.2)
        axes.plot(place(entry.value), middle, "o", markersize=7.5, color=light(entry.colour), markeredgewidth=0)
    return figure


class Legend:
    """Swatches (a marker, or a square where there is none) with their names, in as many lines as a width needs."""

    def __init__(self, entries: Sequence[tuple[str, str, str | None]], width: float) -> None:
        self._placed: list[tuple[float, float, str, str, str | None]] = []
        x, y = 0.0, 13.0
        for name, colour, marker in entries:
            name = fits(name, width - 14)
            length = 14 + _LETTER * _SIZE * len(name) + 14
            if x and x + length > width:
                x, y = 0.0, y + 18
            self._placed.append((x, y, name, colour, marker))
            x += length
        self.height = y + 8

    def draw(self, axes: Axes) -> None:
        """At the top of a canvas."""
        for x, y, name, colour, marker in self._placed:
            axes.plot(x + 5, y - 4, marker or "s", markersize=8, color=light(colour), markeredgewidth=0)
            write(axes, x + 14, y, name)


def _rectangle(axes: Axes, x: float, y: float, width: float, height: float, face: str, edge: str | None = None) -> None:
    from matplotlib.patches import Rectangle

    style = {"edgecolor": light(edge), "linewidth": 1.5} if edge else {"linewidth": 0}
    axes.add_patch(Rectangle((x, y), width, height, facecolor=light(face), clip_on=False, zorder=1.5, **style))


def rectangle(axes: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    """A filled rectangle on a canvas."""
    _rectangle(axes, x, y, width, height, colour)


def style_axes(axes: Axes, size: float = SMALL) -> None:
    """The page's colours for an ordinary set of axes."""
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(light("soft"))
    axes.tick_params(which="both", colors=light("soft"), labelsize=size, labelcolor=light("soft"))


def to_bytes(figure: Figure, kind: str) -> bytes:
    """A figure as ``png`` (on white, 150 dots an inch) or ``svg``."""
    import matplotlib as mpl

    sink = io.BytesIO()
    options: dict[str, Any] = {"facecolor": light("card")} if kind == "png" else {"metadata": {"Date": None}}
    with mpl.rc_context(_OPTIONS), warnings.catch_warnings():
        # A glyph that Matplotlib's own typeface lacks: browsers have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(sink, format=kind, dpi=150 if kind == "png" else 72, **options)
    return sink.getvalue()


def write_chart(chart: Chart, stem: Path) -> list[Path]:
    """Write ``STEM.png`` and ``STEM.svg`` with the title, each whole or not at all.

    Raises :class:`FileError` and :class:`ReportError`.
    """
    require_matplotlib()
    written = []
    for kind in ("png", "svg"):
        path = stem.with_name(f"{stem.name}.{kind}")
        content = to_bytes(_framed(chart.draw(WIDE if chart.resizes else WIDTH), chart.title), kind)
        files.write(path, content, files.PNG if kind == "png" else files.SVG)
        written.append(path)
    return written


def _framed(figure: Figure, title: str) -> Figure:
    """The figure with a margin, and its title above."""
    margin, head = 12.0, 24.0
    width, height = (72 * size for size in figure.get_size_inches())
    across, down = width + 2 * margin, height + 2 * margin + head
    for axes in figure.axes:
        box = axes.get_position()
        left, bottom = (margin + box.x0 * width) / across, (margin + box.y0 * height) / down
        axes.set_position((left, bottom, box.width * width / across, box.height * height / down))
    figure.set_size_inches(across / 72, down / 72)
    text = fits(title, width).translate(_CONTROL)
    place = margin / across, 1 - (margin + 12) / down
    figure.text(*place, text, color=light("ink"), fontsize=_SIZE, fontweight="bold", va="baseline", parse_math=False)
    return figure


def inline(chart: Chart, width: float, suffix: str = "") -> str:
    """The picture as an ``<svg>`` element for a page: colours are CSS variables, and its names are its own."""
    require_matplotlib()
    text = to_bytes(chart.draw(width), "svg").decode("utf-8")
    body = text[text.index("<svg") :]
    head, body = body.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    key = f"{chart.key}{suffix}"
    body = _own_names(body, key)
    colours = {light(name): f"var(--{name})" for name in DRAWN}
    body = re.sub(r'style="([^"]*)"', lambda match: f'style="{_restyled(match[1], colours)}"', body)
    names = (
        f'<title id="{key}-title">{escape(chart.title)}</title><desc id="{key}-desc">{escape(chart.description)}</desc>'
    )
    return (
        f'<svg viewBox="{box[1] if box else ""}" role="img" aria-labelledby="{key}-title {key}-desc" '
        f'class="chart">{names}{body}'
    )


def _own_names(body: str, key: str) -> str:
    """Only names that something refers to stay, each with the chart's own before it."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in used else "", body)
    body = re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{key}-{match[1]})", body)
    body = re.sub(r'xlink:href="#([^"]+)"', lambda match: f'href="#{key}-{match[1]}"', body)
    return re.sub(r"\s*\n\s*", "\n", body)


def _restyled(style: str, colours: dict[str, str]) -> str:
    style = re.sub(r"#[0-9a-f]{6}", lambda match: colours[match[0]], style)
    # Only the size stays: of `font: 12px 'DejaVu Sans', ...` in older Matplotlib, `font-family: ...` in newer.
    style = re.sub(r"font: (?:\w+ )*([\d.]+px)[^;]*", r"font-size: \1", style)
    return re.sub(r"font-family: [^;]*(?:; |$)", "", style)
