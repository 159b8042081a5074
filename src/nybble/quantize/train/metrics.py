"""Figures of each epoch: a CSV file, TensorBoard, curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nybble.quantize import atomic

#: Columns of ``metrics.csv``.
COLUMNS = (
    "epoch",
    "learning_rate",
    "loss",
    "top1_train",
    "top1",
    "top5",
    "val_loss",
    "val_noise",
    "images_per_second",
    "seconds",
)
Row = dict[str, float]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Rewrite the file with all rows, so that it has each epoch once after a resume."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.10g}" for name, value in row.items()})
    atomic.write(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))


class Board:
    """TensorBoard's event files, where the package is installed; otherwise nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder))

    def write(self, row: Row) -> None:
        """Add one epoch's figures."""
        if self._writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, int(row["epoch"]))
            self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


def _answers(axes: Any, rows: Sequence[Row]) -> tuple[Any, str, dict[str, str]]:
    if any("val_noise" in row for row in rows):
        return axes, "noise of the outputs", {"validation": "val_noise"}
    return axes, "top-1", {"training (augmented)": "top1_train", "validation": "top1"}


def draw_curves(path: Path, rows: Sequence[Row]) -> bool:
    """Draw loss, top-1 and learning rate over epochs; ``False`` where Matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not rows:
        return False
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, accuracy, learning = figure.subplots(1, 3)
    panels = (
        (loss, "loss", {"training": "loss", "validation": "val_loss"}),
        _answers(accuracy, rows),
        (learning, "learning rate", {"": "learning_rate"}),
    )
    for axes, title, curves in panels:
        for (label, name), colour in zip(curves.items(), ("#8c8c8c", "#0b5fa5"), strict=False):
            points = [(row["epoch"], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, color=colour, marker=".")
        axes.set(title=title, xlabel="epoch")
        if len(curves) > 1 and axes.lines:
            axes.legend(fontsize=8)
    atomic.write(path, lambda part: figure.savefig(part, format="png", dpi=110))
    return True
