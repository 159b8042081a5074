"""Where the time goes: by kind of kernel, and layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nybble.report.drawing import SMALL, Bar, Chart, Legend, bar_chart, canvas, rectangle, write
from nybble.report.numbers import NARROW, Cell, Number, milliseconds, percent, plain
from nybble.report.palette import light
from nybble.report.sections.networks import Layer, Network, by_method, legend_of, marks_of, networks
from nybble.report.sections.section import Section, table
from nybble.report.source import Material

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layers(material: Material) -> Section | None:
    """Time by method and in the order of the network."""
    found = networks(material)
    if not found:
        return None
    charts = []
    for place, network in enumerate(found):
        charts += [_methods(network, place + 1), _skyline(network, place + 1)]
    columns = ("layer", "method", "time", "share", "MMAC", "GMAC/s", "zeros")
    rows = ((network.label, _row(network, layer)) for network in found for layer in network.layers)
    return Section(
        "layers",
        "Time of each layer",
        "One photo at a time. Zeros are those among the activations that a layer reads; methods that skip them count "
        "their multiplications as done.",
        charts,
        [table("layers", "Every layer in the order of the network", columns, rows)],
        notes=[f"{network.title}: {network.how}." for network in found],
    )


def _methods(network: Network, number: int) -> Chart:
    total = sum(layer.seconds for layer in network.layers)
    marks, bars = marks_of(network), []
    for method, chosen in by_method(network).items():
        seconds = sum(layer.seconds for layer in chosen)
        label = f"{method}, {len(chosen)} step{'' if len(chosen) == 1 else 's'}"
        text = f"{milliseconds(seconds)}, {100 * seconds / total:.0f}{NARROW}%" if total else str(milliseconds(seconds))
        bars.append(Bar(label, seconds, text, marks[method][0]))
    bars.sort(key=lambda bar: -bar.value)
    title = f"{network.title}: by kind of kernel{network.mark}"
    return bar_chart(f"methods-{number}", title, "the time of an image by kind of kernel", [("", bars)])


def _skyline(network: Network, number: int) -> Chart:
    slowest = sorted(network.layers, key=lambda layer: -layer.seconds)[:5]
    described = "; ".join(f"{layer.name} {milliseconds(layer.seconds)}" for layer in slowest)
    return Chart(
        f"skyline-{number}",
        f"{network.title}: in the order of the network{network.mark}",
        f"A column a step, as high as its time. The slowest: {described}.",
        lambda width: _draw_skyline(network, width),
        resizes=True,
    )


def _draw_skyline(network: Network, width: float) -> Figure:
    marks = marks_of(network)
    tall, left, top = 190.0, 34.0, 26.0
    legend = Legend([(name, colour, None) for name, colour, _ in legend_of(marks)], width)
    begin = legend.height + top
    figure, axes = canvas(width, begin + tall + 24)
    legend.draw(axes)
    most = max((layer.seconds for layer in network.layers), default=0.0) or 1.0
    step = _step(most * 1e3, 4) / 1e3
    end = step * max(1, -(-most // step))
    base = begin + tall
    write(axes, 0, begin - 12, "ms", "soft", SMALL)
    for place in range(round(end / step) + 1):
        y = base - place * step / end * tall
        axes.plot((left, width), (y, y), color=light("line"), linewidth=0.8, zorder=1)
        write(axes, left - 6, y + 4, f"{place * step * 1e3:g}", "soft", SMALL, "right")
    room = (width - left) / max(1, len(network.layers))
    for place, layer in enumerate(network.layers):
        height = layer.seconds / end * tall
        rectangle(axes, left + place * room + room * 0.1, base - height, room * 0.8, height, marks[layer.method][0])
    write(axes, left, base + 16, "first step", "soft", SMALL)
    write(axes, width, base + 16, "last step", "soft", SMALL, "right")
    return figure


def _step(most: float, parts: int) -> float:
    """A round number of which about so many make ``most``."""
    power = 10.0 ** len(str(int(most))) if most >= 1 else 1.0
    while power > most:
        power /= 10
    return next(step * power for step in (0.1, 0.2, 0.25, 0.5, 1, 2, 2.5, 5, 10) if most / (step * power) <= parts + 1)


def _row(network: Network, layer: Layer) -> list[Cell]:
    total = sum(entry.seconds for entry in network.layers)
    return [
        layer.name,
        layer.method,
        milliseconds(layer.seconds),
        percent(layer.seconds / total) if total else None,
        Number(layer.macs, f"{layer.macs / 1e6:,.2f}") if layer.macs else None,
        plain(layer.gmacs) if layer.gmacs is not None else None,
        percent(layer.zero_share) if layer.zero_share is not None else None,
    ]
