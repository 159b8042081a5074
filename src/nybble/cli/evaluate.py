"""``nybble evaluate``: accuracy on labelled photos, and images per second."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from nybble.cli.errors import WrongUsageError
from nybble.cli.evaluate_task import evaluate_task
from nybble.cli.model import CPU, Device, Json, Model, Threads, load_engine
from nybble.cli.output import print_json, show_disturbance
from nybble.cli.photos import Batch, Exif, Images, Limit, end, open_labelled, preprocessing_of, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.engine import Ensemble
    from nybble.graph import Graph
    from nybble.graph.types import Array
    from nybble.images import LeftOut, PhotoFile


#: Photos that several threads decode before the engine runs on them; a 224x224 photo takes 150 KB.
_DECODED_TOGETHER = 64


def evaluate(
    images: Images,
    model: Model = None,
    limit: Limit = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", metavar="CSV", help="Write file, label, prediction and score here.", show_default=False
        ),
    ] = None,
    threads: Threads = None,
    device: Device = CPU,
    batch: Batch = 8,
    reference: Annotated[
        bool, typer.Option("--reference", help="Run the integer reference interpreter instead of the engine; slow.")
    ] = False,
    exif: Exif = False,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="SIGMA",
            min=0,
            help="For a restoring network: add noise of this standard deviation (of 255) to clean images.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Report top-1 and top-5 accuracy on labelled photos, and images per second; or the metric of another task.

    Detection, segmentation, restoration and text are measured on boxes, masks, clean images and corners
    (docs/tasks.md), with 95 % intervals.

    Photos that cannot be decoded are reported and left out; the exit code is then 4.

    Images per second are those of the engine alone, from decoded photos to logits; a second figure includes reading,
    decoding and resizing the photos.
    """
    from nybble.disturbance import Watch, warning
    from nybble.engine.scores import ranked, softmax
    from nybble.files import PREDICTIONS, check_free
    from nybble.images import LeftOut
    from nybble.models import find, is_ensemble
    from nybble.schemas import EVALUATE
    from nybble.statistics import Share

    chosen = find(model, ensembles=True)
    if predictions is not None:
        check_free(predictions, PREDICTIONS)
    engine = load_engine(chosen.path, threads, "reference" if reference else device)
    preprocessing_of(engine.graph)
    if not is_ensemble(chosen.path) and (noise is not None or not _classifies(engine.graph)):
        if predictions is not None:
            raise WrongUsageError("--predictions is for classification only")
        evaluate_task(engine, chosen.name, images, limit=limit, noise=noise, exif=exif, as_json=as_json)
        return
    asked = Asked(cast("Ensemble", engine)) if is_ensemble(chosen.path) else None
    run: Callable[[Array], Array] = asked or engine
    folder = open_labelled(engine.graph, images, limit)
    left_out = LeftOut(folder.left_out)

    rows: list[tuple[str, int, int, float]] = []
    hits = [0, 0]
    engine_seconds = 0.0
    watch = Watch()
    begun = time.perf_counter()
    with one_bar() as progress:
        progress("evaluating", 0, len(folder))
        for photos, entries in _batches(folder, engine.prepare, batch, exif, left_out):
            ready = time.perf_counter()
            logits = run(photos)
            engine_seconds += time.perf_counter() - ready
            scores = softmax(logits)
            for entry, best, score in zip(entries, ranked(logits, 5), scores, strict=True):
                label = entry.label if entry.label is not None else -1
                hits[0] += bool(best[0] == label)
                hits[1] += bool((best == label).any())
                rows.append((entry.file, label, int(best[0]), float(score[best[0]])))
            progress("evaluating", len(rows), len(folder))
    seconds = time.perf_counter() - begun
    disturbance = watch.taken()
    count = len(rows)
    left_out.check(count)
    report_left_out(left_out)
    top1, top5 = (Share(right, count) for right in hits)
    if predictions is not None:
        _write(predictions, rows)

    speed, whole = count / engine_seconds, count / seconds
    if as_json:
        print_json(
            {
                "schema": EVALUATE,
                "model": chosen.name,
                "folder": str(images),
                "images": count,
                "left_out": left_out.to_json(),
                "exif": exif,
                "top1": top1.value,
                "top1_right": top1.right,
                "top1_interval": top1.interval,
                "top5": top5.value,
                "top5_right": top5.right,
                "top5_interval": top5.interval,
                "images_per_second": speed,
                "images_per_second_with_decoding": whole,
                "batch": batch,
                "threads": engine.threads,
                "device": "reference" if reference else device,
                "isa": "reference" if reference else engine.isa,
                "asked": asked.record() if asked else None,
                "disturbance": disturbance,
                "warning": warning(disturbance),
            }
        )
        end(left_out)
        return
    show_disturbance(disturbance)
    typer.echo(f"images             {count}" + f", {len(left_out)} left out" * bool(left_out))
    typer.echo(f"top1               {top1}")
    typer.echo(f"top5               {top5}")
    threads_text = f"{engine.threads} thread{'s' if engine.threads != 1 else ''}"
    what = "reference interpreter" if reference else f"engine only ({threads_text}, batch {batch}, {engine.isa})"
    typer.echo(f"images_per_second  {speed:.1f} {what}")
    typer.echo(f"                   {whole:.1f} with reading, decoding and resizing the photos")
    for member in asked.record() if asked else ():
        typer.echo(f"ran                {member['share']:.1%} of the photos: {member['model']}")
    if predictions is not None:
        typer.echo(f"predictions        {predictions}")
    end(left_out)


def _classifies(graph: Graph) -> bool:
    from nybble.graph import Classify

    return graph.task is None or isinstance(graph.task, Classify)


class Asked:
    """An ensemble that counts the photos that each member runs on."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._counts: list[int] = []

    def __call__(self, photos: Array) -> Array:
        """Logits, as those of the ensemble."""
        from nybble.engine.ensemble.probabilities import logarithms

        answers = self._ensemble.answers(photos)
        self._counts += answers.asked.tolist()
        return logarithms(answers.probabilities)

    def record(self) -> list[dict[str, Any]]:
        """The share of the photos that each member ran on."""
        total = max(1, len(self._counts))
        return [
            {"model": member.name, "share": sum(count > place for count in self._counts) / total}
            for place, member in enumerate(self._ensemble.members)
        ]


def _batches(
    folder: Sequence[PhotoFile], prepare: Callable[..., Array], batch: int, exif: bool, left_out: LeftOut
) -> Iterator[tuple[Array, Sequence[PhotoFile]]]:
    """Batches of photos. Many are decoded at a time, while the engine is idle, so that its time can be measured."""
    from nybble.images import batches

    step = batch * -(-_DECODED_TOGETHER // batch)
    for start in range(0, len(folder), step):
        yield from list(batches(folder[start : start + step], prepare, batch=batch, exif=exif, left_out=left_out))


def _write(path: Path, rows: Iterable[tuple[str, int, int, float]]) -> None:
    from nybble.files import PREDICTIONS, write_text

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("file", "label", "prediction", "score"))
    writer.writerows((file, label, prediction, f"{score:.6f}") for file, label, prediction, score in rows)
    write_text(path, table.getvalue(), PREDICTIONS)
