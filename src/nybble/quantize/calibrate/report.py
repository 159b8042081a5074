"""The report of a calibration: numbers, and a picture of each histogram with the chosen range."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nybble import schemas
from nybble.graph.types import DType
from nybble.quantize import atomic
from nybble.quantize.calibrate.observers import HistogramObserver
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import CalibrationConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS, _PANEL, _DRAWN_BINS = 6, (3.0, 1.9), 128


@dataclass(frozen=True)
class TensorRange:
    """One tensor: values seen, their extremes, the share that is exactly zero, the range, the share clipped by it."""

    dtype: str
    values: int
    minimum: float
    maximum: float
    zeros: float
    range: float
    clipped: float

    @classmethod
    def of(cls, observer: HistogramObserver, dtype: DType, chosen: float) -> TensorRange:
        """The figures of ``observer`` for the range ``chosen``; the clipped share has the precision of a bin."""
        total = max(1, observer.total)
        first = math.ceil(chosen / observer.width - 1e-9) if observer.width else 0
        return cls(
            dtype=str(dtype),
            values=observer.total,
            minimum=observer.minimum,
            maximum=observer.maximum,
            zeros=observer.zeros / total,
            range=chosen,
            clipped=int(observer.magnitudes()[first:].sum()) / total,
        )


@dataclass(frozen=True)
class CalibrationReport:
    """The outcome of :func:`nybble.quantize.calibrate`.

    Attributes
    ----------
    config : CalibrationConfig
    images : int
    seconds : float
        Duration of this run; after a resume only that of the remaining work.
    tensors : dict of str to TensorRange
        By the activation quantizers' names.
    observers : dict of str to HistogramObserver
    """

    config: CalibrationConfig
    images: int
    seconds: float
    tensors: dict[str, TensorRange]
    observers: dict[str, HistogramObserver]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: all figures, and each histogram as it is drawn (docs/calibrate.md)."""
        return {
            "schema": schemas.CALIBRATION,
            "config": self.config.model_dump(mode="json"),
            "images": self.images,
            "seconds": self.seconds,
            "tensors": {
                name: {**asdict(tensor), "histogram": _histogram(self.observers[name])}
                for name, tensor in self.tensors.items()
            },
        }

    def save_png(self, path: str | Path) -> None:
        """Draw every histogram (logarithmic counts) with its range as a line.

        Raises
        ------
        QuantizeError
            If Matplotlib is not installed, or the file cannot be written.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise QuantizeError("drawing histograms needs matplotlib: pip install 'nybble[quantize]'") from error

        rows = -(-len(self.tensors) // _COLUMNS)
        # The object interface: it needs no display and leaves no state behind.
        figure = Figure(figsize=(_COLUMNS * _PANEL[0], rows * _PANEL[1] + 0.6), layout="constrained")
        panels = figure.subplots(rows, _COLUMNS, squeeze=False).reshape(-1)
        for axes, (name, tensor) in zip(panels, self.tensors.items(), strict=False):
            _draw(axes, name, tensor, self.observers[name])
        for axes in panels[len(self.tensors) :]:
            axes.set_visible(False)
        method = self.config.method
        text = f"percentile {self.config.percentile}" if method == "percentile" else method
        figure.suptitle(f"{self.images} images, range by {text} (line); share of zeros and of clipped values", size=9)
        atomic.write(Path(path), lambda part: figure.savefig(part, format="png", dpi=80))


def _histogram(observer: HistogramObserver) -> dict[str, Any]:
    """Bins to draw, neighbours of the counted ones merged: the first begins at ``start``, each is ``width`` wide."""
    merged = max(1, observer.bins // _DRAWN_BINS)
    return {
        "start": float(observer.edges()[0]),
        "width": merged * observer.width,
        "counts": observer.counts.reshape(-1, merged).sum(axis=1).tolist(),
    }


def _draw(axes: Axes, name: str, tensor: TensorRange, observer: HistogramObserver) -> None:
    drawn = _histogram(observer)
    counts = drawn["counts"]
    edges = drawn["start"] + drawn["width"] * np.arange(len(counts) + 1)
    if observer.width:
        axes.stairs(np.maximum(counts, 0.5), edges, fill=True, color="#0b5fa5", baseline=0.5)
        axes.set_yscale("log")
        right = max(observer.maximum, tensor.range) * 1.05
        axes.set_xlim(min(observer.minimum, -tensor.range) * 1.05 if observer.signed else 0, right)
        for line in (tensor.range, -tensor.range) if observer.signed else (tensor.range,):
            axes.axvline(line, color="#e08214", linewidth=1)
    axes.set_title(f"{name} {tensor.dtype}, range {tensor.range:.4g}", fontsize=6)
    axes.text(
        0.98,
        0.95,
        f"0: {tensor.zeros:.0%}\n>: {tensor.clipped:.2g}",
        transform=axes.transAxes,
        fontsize=6,
        ha="right",
        va="top",
    )
    axes.tick_params(labelsize=5)
