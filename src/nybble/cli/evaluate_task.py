"""``nybble evaluate`` for detection, segmentation, restoration and text: the metrics of the task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nybble.cli.output import print_json
from nybble.cli.photos import end, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble import Engine
    from nybble.graph.types import Array
    from nybble.tasks import Answer


def evaluate_task(
    engine: Engine, model: str, images: Path, *, limit: int | None, noise: float | None, exif: bool, as_json: bool
) -> None:
    """Report the metrics of a network's task on labelled photos, with intervals.

    Raises
    ------
    GraphError, ImageError
        As :class:`nybble.tasks.evaluation.Evaluation`.
    """
    from nybble.engine.predicting import predict
    from nybble.images import LeftOut
    from nybble.schemas import EVALUATE_TASK
    from nybble.tasks import task_of
    from nybble.tasks.evaluation import Evaluation
    from nybble.tasks.metrics import value_with_interval

    evaluation = Evaluation(engine.graph, images, limit, noise)
    left_out = LeftOut()

    def asked(photo: Path | Array) -> Answer:
        return predict(engine, photo, exif=exif)

    begun = time.perf_counter()
    with one_bar() as progress:
        progress("evaluating", 0, len(evaluation.photos))
        for done, _ in enumerate(evaluation.run(asked, left_out), start=1):
            progress("evaluating", done, len(evaluation.photos))
    seconds = time.perf_counter() - begun
    count = evaluation.counted()
    left_out.check(count)
    report_left_out(left_out)
    kind = task_of(engine.graph).kind
    figures = {metric.name: value_with_interval(metric) for metric in evaluation.metrics}
    if as_json:
        print_json(
            {
                "schema": EVALUATE_TASK,
                "model": model,
                "task": kind,
                "folder": str(images),
                "images": count,
                "left_out": left_out.to_json(),
                "exif": exif,
                "noise": noise,
                "metrics": {name: figure.to_json() for name, figure in figures.items()},
                "images_per_second": count / seconds,
            }
        )
        end(left_out)
        return
    typer.echo(f"images             {count}")
    for name, figure in figures.items():
        scale, unit = (1.0, " dB") if name == "PSNR" else (100.0, " %")
        value, low, high = (scale * number for number in figure)
        typer.echo(f"{name:<18} {value:.2f}{unit} (95 % interval {low:.2f} to {high:.2f})")
    typer.echo(f"images_per_second  {count / seconds:.1f} with reading, decoding and counting")
    end(left_out)
