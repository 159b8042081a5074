"""Pictures and tables of a run: histograms with ranges, training curves, and where the error comes from."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nybble.engine import Engine
from nybble.graph import Graph
from nybble.quantize import atomic
from nybble.quantize.calibrate.report import CalibrationReport
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer
from nybble.quantize.lower.agreement import Agreement, compare
from nybble.quantize.lower.conversion import ConversionReport
from nybble.quantize.pipeline.outcome import Outcome
from nybble.quantize.pipeline.pictures import can_be_drawn, draw_answers

#: Columns of ``layers.csv``. ``alone`` is the signal-to-noise ratio when nothing but this is rounded; ``network``
#: and ``integer`` those of the value within the fake-quantized and the integer network. All in dB.
COLUMNS = ("name", "kind", "type", "alone", "network", "integer", "off_by_one", "bias", "shift")

#: Rows of each kind in ``worst.csv``.
_WORST = 10


class Report:
    """Writes into a folder.

    ============================  ==================================================================
    ``result.json``               what ``--json`` prints
    ``histograms.png``            each activation's histogram and its range
    ``calibration.json``          the same in figures
    ``curves.png, metrics.csv``   of training
    ``layers.csv, layers.png``    signal-to-noise ratio of each layer's weights and each activation
    ``worst.csv``                 the rows of ``layers.csv`` with the most noise, worst first
    ``answers.png``               answers of the float and the integer network, side by side
    ============================  ==================================================================
    """

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        self._folder = folder
        self._outcome = outcome
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise QuantizeError(f"{folder}: cannot be made: {error.strerror or error}") from error

    def write(self, calibration: CalibrationReport | None, training: Path) -> None:
        """Everything but the layers."""
        self._json("result.json", self._outcome.to_dict())
        if calibration is not None:
            calibration.save_png(self._folder / "histograms.png")
            self._json("calibration.json", calibration.to_dict())
        for name in ("curves.png", "metrics.csv"):
            if (training / name).is_file():
                atomic.write(self._folder / name, functools.partial(shutil.copyfile, training / name))

    def layers(
        self, network: QuantizedNetwork, graph: Graph, conversion: ConversionReport, images: Iterable[Tensor]
    ) -> list[dict[str, Any]]:
        """Compare float, fake-quantized and integer network value by value; the reference interprets the last."""
        some = list(images)
        found = compare(network, graph, conversion, some)
        rows = _rows(network, conversion, found, _alone(network, some))
        self._table("layers.csv", rows)
        _draw(self._folder / "layers.png", rows)
        self._table("worst.csv", _worst(rows))
        return rows

    def answers(self, teacher: QuantizedNetwork, engine: Engine, images: Iterable[Tensor]) -> None:
        """Boxes, masks, text or restored images of both networks, where the task has such."""
        if can_be_drawn(engine.graph):
            draw_answers(self._folder / "answers.png", teacher, engine, images)

    def _table(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        atomic.write(self._folder / name, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))

    def _json(self, name: str, value: Any) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        atomic.write(self._folder / name, lambda part: part.write_text(text, encoding="utf-8"))


@torch.no_grad()
def _alone(network: QuantizedNetwork, images: Iterable[Tensor]) -> dict[str, float]:
    """By step, the signal-to-noise ratio that rounding exact values, or weights, has by itself."""
    steps = [step for step in network.steps if isinstance(step.module, ActivationQuantizer)]
    signal, noise = dict.fromkeys((step.name for step in steps), 0.0), dict.fromkeys((step.name for step in steps), 0.0)
    mode = network.mode
    for batch in images:
        network.set_mode("float")
        exact = network.run({network.INPUT: batch}, keep=[step.name for step in steps])
        network.set_mode("quantize")
        for step in steps:
            value = exact[step.name].double()
            signal[step.name] += float(value.square().sum())
            noise[step.name] += float((step.module(exact[step.name]).double() - value).square().sum())
    ratios = {name: decibels(signal[name], noise[name]) for name in signal}
    network.set_mode("quantize")
    for step in network.steps:
        if isinstance(step.module, QuantizedLayer):
            weight = step.module.weight.double()
            rounded = step.module.weight_quantizer(step.module.weight).double()
            ratios[step.name] = decibels(float(weight.square().sum()), float((rounded - weight).square().sum()))
    network.set_mode(mode)
    return ratios


def decibels(signal: float, noise: float) -> float:
    """The ratio of two sums of squares; infinite where there is no noise."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _rows(
    network: QuantizedNetwork, conversion: ConversionReport, found: Agreement, alone: dict[str, float]
) -> list[dict[str, Any]]:
    # In the order of the steps.
    values = iter(found.values)
    layers = {record.name: record for record in conversion.layers}
    rescales = {record.name: record for record in conversion.rescales}
    rows: list[dict[str, Any]] = []
    for step in network.steps:
        if isinstance(step.module, QuantizedLayer):
            record = layers[step.name]
            rows.append(
                {
                    "name": step.module.name,
                    "kind": "weights",
                    "type": f"s{step.module.weight_quantizer.bits}",
                    "alone": alone[step.name],
                    "bias": str(record.bias),
                }
            )
        elif isinstance(step.module, ActivationQuantizer):
            value = next(values)
            rescale = rescales.get(conversion.values[step.name])
            rows.append(
                {
                    "name": value.name,
                    "kind": "activation",
                    "type": str(step.module.dtype),
                    "alone": alone[step.name],
                    "network": value.fake_sqnr,
                    "integer": value.integer_sqnr,
                    "off_by_one": value.off_rate,
                    "shift": None if rescale is None else rescale.shift,
                }
            )
    return rows


def _worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The activations with the most noise in the integer network, then the weights with the most noise."""
    activations = sorted((row for row in rows if "integer" in row), key=lambda row: row["integer"])
    weights = sorted((row for row in rows if row["kind"] == "weights"), key=lambda row: row["alone"])
    return activations[:_WORST] + weights[:_WORST]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else value


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise QuantizeError("drawing layers needs matplotlib: pip install 'nybble[quantize]'") from error

    kinds = [[row for row in rows if row["kind"] == kind] for kind in ("activation", "weights")]
    longest = max(1, *(len(kind) for kind in kinds))
    figure = Figure(figsize=(14, 1.2 + 0.17 * longest), layout="constrained")
    for axes, kind, title in zip(figure.subplots(1, 2), kinds, ("activations", "weights"), strict=True):
        places = range(len(kind))
        for column, colour, label in (
            ("alone", "#bdbdbd", "rounded alone"),
            ("network", "#0b5fa5", "fake-quantized network"),
            ("integer", "#e08214", "integer network"),
        ):
            drawn = [(row[column], place) for place, row in zip(places, kind, strict=True) if column in row]
            drawn = [(value, place) for value, place in drawn if math.isfinite(value)]
            if drawn:
                axes.plot(*zip(*drawn, strict=True), marker="o", markersize=3, color=colour, label=label)
        axes.set_yticks(list(places), [f"{row['name']} {row['type']}" for row in kind], fontsize=6)
        axes.invert_yaxis()
        axes.set(title=f"{title}: signal-to-noise ratio", xlabel="dB")
        axes.grid(axis="x", linewidth=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    atomic.write(path, lambda part: figure.savefig(part, format="png", dpi=90))
