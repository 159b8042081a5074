"""``nybble demo``: a 4-bit network names what is on a few photos, and how fast it does."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nybble.cli.errors import CommandError
from nybble.cli.model import MODEL_VARIABLE, Threads, find
from nybble.cli.output import console, table

if TYPE_CHECKING:
    from nybble.engine import Engine
    from nybble.graph.types import Array

#: Photos inside the wheel of scikit-image (its other ones are downloaded), and what they show.
PHOTOS = (("chelsea.png", "a cat"), ("coffee.png", "a cup of coffee"), ("motorcycle_left.png", "a motorcycle"))
_BATCH = 8
_TOP = 3
#: Runs whose median is the speed, at least.
_RUNS = 5


class Speed(NamedTuple):
    """Images per second at one batch size: the median of ``runs``."""

    batch: int
    images_per_second: float
    runs: int


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="MODEL", help="A model folder or the name of a fetched model.", show_default=False
        ),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Time to measure speed for.")] = 4.0,
    threads: Threads = None,
) -> None:
    """Classify the photos that come with scikit-image, and measure the speed on them.

    The model is the one asked for, else the one that NYBBLE_MODEL names, else one that was fetched, else that of a
    development checkout. Where there is none, a network with random weights shows the speed alone.
    """
    import numpy as np

    import nybble
    from nybble.cli.photos import preprocessing_of
    from nybble.images import load_photo

    paths = photo_paths()
    found = find(model)
    if found is None:
        from nybble.synthetic import resnet50

        typer.echo("No trained model was found: `nybble fetch nvidia-resnet50-int4` downloads one (14 MB), or")
        typer.echo(
            f"{MODEL_VARIABLE} names a model folder. Here is the SPEED ONLY, of ResNet-50 v1.5 with RANDOM weights:"
        )
        typer.echo("it cannot tell a cat from a cup, so nothing is classified.")
        typer.echo("")
        graph = resnet50()
        begun = time.perf_counter()
        engine = nybble.Engine(graph, threads=threads)
        label = "ResNet-50 v1.5, synthetic weights"
    else:
        typer.echo(f"model    {found.path}")
        typer.echo(f"         ({found.why})")
        begun = time.perf_counter()
        engine = nybble.load(found.path, threads=threads)
        label = found.path.parent.name if found.path.name == "model" else found.path.name
    threads_text = f"{engine.threads} thread{'s' if engine.threads != 1 else ''}"
    typer.echo(f"engine   {engine.isa}, {threads_text}, loaded in {time.perf_counter() - begun:.2f} s")
    if found is not None:
        _show_predictions(engine, paths)
    preprocessing = preprocessing_of(engine.graph)
    photos = np.stack([load_photo(path, preprocessing) for path in paths])
    speeds = [measure(engine, photos, batch, seconds / 2) for batch in (1, _BATCH)]
    grid = table("speed, decoded photo to logits", "batch", "images/s", "", numbers=("batch", "images/s"))
    for speed in speeds:
        grid.add_row(label, str(speed.batch), f"{speed.images_per_second:.1f}", f"median of {speed.runs} runs")
    typer.echo("")
    console().print(grid)


def photo_paths() -> list[Path]:
    """The demo's photos. Raises :class:`CommandError` where scikit-image is not installed."""
    package = importlib.util.find_spec("skimage")
    places = package.submodule_search_locations if package is not None else None
    found = [path for place in places or () for name, _ in PHOTOS if (path := Path(place) / "data" / name).is_file()]
    if not found:
        raise CommandError(
            "the demo's photos come with scikit-image, which is not installed: pip install 'nybble[demo]'"
        )
    return found


def measure(
    engine: Engine,
    photos: Array,
    batch: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Median speed on uint8 photos, repeated to fill a batch, after one run that is not counted.

    Runs as often as fits into ``seconds``, five times at least.
    """
    indices = [position % len(photos) for position in range(batch)]
    filled = photos[indices]
    durations: list[float] = []
    end = clock() + seconds
    # A batch of one takes turns: on sparse activations one photo is faster than another.
    single = [photos[i : i + 1] for i in range(len(photos))]
    engine(filled)
    while len(durations) < _RUNS or clock() < end:
        work = single[len(durations) % len(single)] if batch == 1 else filled
        start = clock()
        engine(work)
        durations.append(clock() - start)
    return Speed(batch, batch / statistics.median(durations), len(durations))


def _show_predictions(engine: Engine, paths: Sequence[Path]) -> None:
    subjects = dict(PHOTOS)
    grid = table("photo", "shows", "the network says", "score", numbers=("score",))
    for path, predictions in zip(paths, engine.classify(paths, top=_TOP), strict=True):
        for rank, (_, name, score) in enumerate(predictions):
            first = rank == 0
            grid.add_row(path.name if first else "", subjects[path.name] if first else "", name, f"{score:.1%}")
        grid.add_section()
    typer.echo("")
    console().print(grid)
