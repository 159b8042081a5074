"""Pictures of a result: throughput, latency, roofline; each as PNG and SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nybble.bench.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours by bits; they differ in lightness as well.
COLOURS = {4: "#0b5fa5", 8: "#e08214", 32: "#8c8c8c"}


def write_plots(result: dict[str, Any], stem: Path) -> list[Path]:
    """Write ``STEM-throughput``, ``STEM-latency`` and, where ceilings were measured, ``STEM-roofline``.

    Raises :class:`BenchError` where Matplotlib is not installed.
    """
    require("matplotlib", "plotting")
    # The object interface: it needs no display and leaves no state behind.
    from matplotlib.figure import Figure

    figures = {}
    if result.get("runs"):
        figures["throughput"] = _bars(Figure, result, "throughput")
        figures["latency"] = _bars(Figure, result, "latency")
    if result.get("ceilings"):
        figures["roofline"] = _roofline(Figure, result)
    written = []
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            path = stem.with_name(f"{stem.name}-{name}.{suffix}")
            part = path.with_name(path.name + ".part")
            figure.savefig(part, format=suffix, dpi=150, bbox_inches="tight")
            part.replace(path)
            written.append(path)
    return written


def _bars(make: type[Figure], result: dict[str, Any], kind: str) -> Figure:
    """Horizontal bars, a panel a batch size; a wrong contestant is hatched and says so."""
    batches = sorted({run["batch"] for run in result["runs"]})
    count = max(sum(run["batch"] == batch for run in result["runs"]) for batch in batches)
    figure = make(figsize=(5.5 * len(batches), 1.2 + 0.38 * count), layout="constrained")
    panels = figure.subplots(1, len(batches), squeeze=False)[0]
    for axes, batch in zip(panels, batches, strict=True):
        runs = [run for run in result["runs"] if run["batch"] == batch]
        if kind == "latency":
            # Calls that overlap say nothing about one call.
            runs = [run for run in runs if run["mode"] == "latency"]
        _panel(axes, runs, kind)
        axes.set_title(f"batch {batch}")
    about = result["machine"]
    figure.suptitle(f"{about['cpu']}, {result['settings']['threads']} threads, {result['date'][:10]}", fontsize=9)
    return figure


def _panel(axes: Axes, runs: list[dict[str, Any]], kind: str) -> None:
    for place, run in enumerate(runs):
        colour = COLOURS.get(run["bits"], "black")
        label = run["contestant"] + (" (WRONG)" if run["wrong"] else "")
        hatch = "//" if run["wrong"] or run["activations"] == "dense" else None
        if kind == "throughput":
            value = run["images_per_second"]
            low, high = run["images_per_second_spread"]["quartiles"]
        else:
            value = run["latency"]["p50"] * 1e3
            low, high = value, run["latency"]["p99"] * 1e3
        error = [[max(0.0, value - low)], [max(0.0, high - value)]]
        axes.barh(place, value, color=colour, hatch=hatch, edgecolor="white", xerr=error, ecolor="black", capsize=2)
        axes.annotate(f" {value:.1f}", (high, place), va="center", fontsize=8)
        axes.annotate(f"{label} ", (0, place), ha="right", va="center", fontsize=8)
    axes.set_yticks([])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    if kind == "throughput":
        axes.set_xlabel("images/s, median and quartiles of rounds")
    else:
        axes.set_xlabel("ms a call, median, whisker to p99")
    axes.spines[["top", "right"]].set_visible(False)


def _roofline(make: type[Figure], result: dict[str, Any]) -> Figure:
    figure = make(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    layers = result.get("layers") or []
    most = max(entry["threads"] for entry in result["ceilings"])
    isa = layers[0]["isa"] if layers else result["ceilings"][-1]["isa"]
    # VNNI only adds to what AVX-512 has.
    shown = {isa, "avx512"} if isa.startswith("avx512") else {isa}
    ceilings = [entry for entry in result["ceilings"] if entry["threads"] == most and entry["isa"] in shown]
    reach = [layer["macs"] / layer["bytes"] for layer in layers if layer["bytes"]] or [1.0, 1000.0]
    left, right = min(reach) / 2, max(reach) * 4
    for entry in ceilings:
        if entry["unit"] == "GMAC/s":
            mix, _, where = entry["name"].partition(", ")
            twin = next((other["best"] for other in ceilings if other["name"] == f"{mix}, registers"), None)
            # Where operands in L1 cost nothing, one line says both.
            if where == "L1" and twin is not None and abs(entry["best"] / twin - 1) < 0.1:
                continue
            axes.axhline(entry["best"], color="#555555", linewidth=0.8)
            axes.annotate(entry["name"], (right, entry["best"]), fontsize=7, ha="right", va="bottom")
        else:
            axes.plot([left, right], [left * entry["best"], right * entry["best"]], color="#999999", linewidth=0.8)
            axes.annotate(entry["name"], (left, left * entry["best"]), fontsize=7, va="bottom")
    for method in sorted({str(layer["method"]) for layer in layers}):
        chosen = [layer for layer in layers if str(layer["method"]) == method and layer["bytes"]]
        intensity = [layer["macs"] / layer["bytes"] for layer in chosen]
        axes.scatter(intensity, [layer["gmacs_per_second"] for layer in chosen], s=14, label=method)
    top = max([entry["best"] for entry in ceilings if entry["unit"] == "GMAC/s"] or [1.0])
    fastest = max([layer["gmacs_per_second"] for layer in layers] or [0.0])
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(top / 100, 2 * max(top, fastest)))
    axes.set_xlabel("MACs a byte of input, weights and output")
    axes.set_ylabel("GMAC/s (zeros count as work: skipping them may pass a ceiling)")
    axes.set_title(f"{result['machine']['cpu']}, {isa}, {most} threads", fontsize=9)
    if layers:
        axes.legend(fontsize=8)
    return figure
