"""Each layer's rate and the machine's peak rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nybble.bench.ceilings import loop_of
from nybble.bench.isas import family
from nybble.report.drawing import SMALL, WIDTH, Chart, Legend, canvas, style_axes, write
from nybble.report.numbers import NARROW, Cell, Number, count, plain
from nybble.report.palette import light
from nybble.report.records import Ceiling
from nybble.report.sections.networks import Layer, Network, legend_of, marks_of, networks, threads_text
from nybble.report.sections.section import Section, table
from nybble.report.source import Material

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def roofline(material: Material) -> Section | None:
    """Each convolution's rate over the multiplications that a byte allows, beside the ceilings."""
    found = [(network, _ceilings(network)) for network in networks(material) if network.bench is not None]
    found = [(network, ceilings) for network, ceilings in found if ceilings and any(_points(network))]
    measured: list[tuple[str, list[Cell]]] = [
        (bench.label, [entry.name, entry.isa, count(entry.threads), entry.unit, plain(entry.best), _median(entry)])
        for bench in material.benches
        for entry in bench.record.ceilings
    ]
    if not measured:
        return None
    marks = ("loop", "isa", "threads", "unit", "best window", "median")
    tables = [table("ceilings", "Ceilings measured on this machine", marks, measured)]
    if not found:
        intro = "What loops of nothing but one mix of instructions reach here; no layer was measured beside them."
        return Section("roofline", "Roofline", intro, tables=tables, open_tables=True)
    columns = ("layer", "method", "MAC/byte", "GMAC/s", "instructions", "ceiling", "of it")
    rows = (
        (network.label, _beside(layer, ceilings, network.isa))
        for network, ceilings in found
        for layer in _points(network)
    )
    return Section(
        "roofline",
        "Roofline",
        "Each mark is a layer: how fast it multiplies, over how many multiplications there are for a byte that it must "
        "read or write. Slanted lines are what memory delivers, level ones what a loop of nothing but the kernel's "
        "instructions reaches. Zeros count as work, and Winograd's kernel saves multiplications: both may pass a line.",
        [_roofline(network, ceilings, place + 1) for place, (network, ceilings) in enumerate(found)],
        [table("roofline", "Layers beside the ceiling of their kernel's instructions", columns, rows), *tables],
    )


def _median(entry: Ceiling) -> Cell:
    return None if entry.median is None else plain(entry.median)


def _roofline(network: Network, ceilings: Mapping[str, Ceiling], number: int) -> Chart:
    lines = "; ".join(f"{name} {entry.best:.0f} {entry.unit}" for name, entry in ceilings.items())
    fastest = max(_points(network), key=lambda layer: layer.gmacs or 0.0)
    return Chart(
        f"roofline-{number}",
        f"{network.title}: roofline, {threads_text(network.threads)}",
        f"Marks of {sum(1 for _ in _points(network))} layers over multiplications a byte; the fastest is "
        f"{fastest.name} with {fastest.gmacs:.1f} GMAC/s. Ceilings: {lines}.",
        lambda width: _draw_roofline(network, ceilings, width),
        resizes=True,
    )


def _draw_roofline(network: Network, ceilings: Mapping[str, Ceiling], width: float) -> Figure:
    """The picture: rates over intensity, both logarithmic."""
    from matplotlib.ticker import LogLocator

    points = list(_points(network))
    marks = {
        method: mark for method, mark in marks_of(network).items() if any(layer.method == method for layer in points)
    }
    tall = 300.0 if width <= WIDTH else 380.0
    legend = Legend(legend_of(marks), width)
    begin = legend.height + 22
    total = begin + tall + 46
    figure, ground = canvas(width, total)
    legend.draw(ground)
    write(ground, 0, begin - 9, "GMAC/s", "soft", SMALL)
    write(ground, width, total - 6, "multiplications (MAC) a byte", "soft", SMALL, "right")
    left = 40.0
    axes = figure.add_axes((left / width, 46 / total, (width - left - 2) / width, tall / total))
    style_axes(axes)
    intensity = [layer.macs / layer.bytes for layer in points]
    first, last = min(intensity) / 1.6, max(intensity) * 1.6
    rates = [layer.gmacs or 0.0 for layer in points]
    tops = [entry.best for entry in ceilings.values() if entry.unit == "GMAC/s"]
    high, low = 2.2 * max([*rates, *tops]), 0.5 * min(rates)
    axes.set(xscale="log", yscale="log", xlim=(first, last), ylim=(low, high))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if axis is axes.yaxis else (1.0,)))
    axes.minorticks_off()
    axes.grid(color=light("line"), linewidth=0.8)
    axes.set_axisbelow(True)
    _draw_ceilings(axes, ceilings, (first, last), low)
    for method, (colour, marker) in marks.items():
        chosen = [(x, layer.gmacs) for x, layer in zip(intensity, points, strict=True) if layer.method == method]
        xs, ys = zip(*chosen, strict=True)
        axes.plot(
            xs, ys, marker, markersize=6.5, color=light(colour), markeredgecolor=light("card"), markeredgewidth=0.7
        )
    return figure


def _draw_ceilings(axes: Axes, ceilings: Mapping[str, Ceiling], across: tuple[float, float], low: float) -> None:
    first, last = across
    style: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL, "color": light("soft")}
    top = max((entry.best for entry in ceilings.values() if entry.unit == "GMAC/s"), default=0.0)
    for name, entry in ceilings.items():
        if entry.unit == "GMAC/s":
            axes.plot(across, (entry.best,) * 2, color=light("soft"), linewidth=1.2)
            # At the left, where no layer is so fast; the highest above its line, as another may be near below.
            offset = (4, 4) if entry.best == top else (4, -12)
            axes.annotate(f"{name} {entry.best:.0f}", (first, entry.best), offset, **style)
        else:
            ends = (first * entry.best, last * entry.best)
            axes.plot(across, ends, color=light("soft"), linewidth=1.2, linestyle=(0, (5, 3)))
            # Where the line comes into the picture, at its left or from below.
            x = max(first, low / entry.best)
            offset = (16, 4) if x > first else (12, -4)
            axes.annotate(f"{name} {entry.best:.0f} GB/s", (x, x * entry.best), offset, **style)


def _points(network: Network) -> Iterator[Layer]:
    return (layer for layer in network.layers if layer.gmacs and layer.bytes and layer.macs)


def _ceilings(network: Network) -> dict[str, Ceiling]:
    """The ceilings that the network's kernels have, by instructions, and of memory, on as many threads."""
    bench = network.bench
    if bench is None:
        return {}
    isas = set(family(network.isa))
    known = [entry for entry in bench.ceilings if entry.isa in isas and entry.threads == network.threads]
    loops = {loop_of(layer.method, network.isa) for layer in _points(network)}
    found: dict[str, Ceiling] = {}
    for entry in known:
        name = entry.name if entry.unit == "GB/s" else entry.name.partition(", ")[0]
        # Operands lie in registers or in L1: the ceiling is the faster of the two.
        if (entry.unit == "GB/s" or name in loops) and (name not in found or entry.best > found[name].best):
            found[name] = entry
    return found


def _beside(layer: Layer, ceilings: Mapping[str, Ceiling], isa: str) -> list[Cell]:
    loop = loop_of(layer.method, isa)
    ceiling = ceilings.get(loop or "")
    rate = layer.gmacs or 0.0
    return [
        layer.name,
        layer.method,
        plain(layer.macs / layer.bytes),
        plain(rate),
        loop,
        plain(ceiling.best) if ceiling is not None else None,
        Number(rate / ceiling.best, f"{100 * rate / ceiling.best:.0f}{NARROW}%") if ceiling is not None else None,
    ]
