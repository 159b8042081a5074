"""Run the demo: classify the sample photos, look up recorded answers, measure speeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from nybble.bench.machine import describe
from nybble.demo.answers import Answer, Recorded, read_answers
from nybble.demo.errors import DemoError
from nybble.demo.photos import Sample, fingerprint, samples
from nybble.demo.result import Column, DemoResult, Detector, Network, Shown
from nybble.demo.speed import Contestant, Speed, measure_in_turns
from nybble.disturbance import Watch
from nybble.engine.scores import ranked, softmax
from nybble.graph import Graph, Tensor
from nybble.graph.macs import four_bit_share
from nybble.graph.types import Array
from nybble.images import class_names
from nybble.models import Found, is_ensemble
from nybble.progress import Progress, silent

if TYPE_CHECKING:
    from nybble.engine import Engine
    from nybble.engine.ensemble import Ensemble

#: Answers to each photo.
TOP = 3
BATCHES = (1, 8)
#: Classes of ImageNet-1k, in which the sample photos' classes are counted.
_IMAGENET = 1000
#: The key of 8-bit forms.
_EIGHT = "int8"
_HERE = "run here, now, by nybble"
#: Least score of a box that the demo shows: below it most are wrong or doubled.
SURE = 0.5
#: Photos that boxes are shown on.
_BOXED = ("chelsea.png", "coffee.png", "motorcycle_left.png")


class _Live(NamedTuple):
    """A form that runs here."""

    column: Column
    engine: Engine


class _Opened(NamedTuple):
    """A model: its forms that run here, the model itself last, what was recorded of others, and prepared photos."""

    found: Found
    load_seconds: float
    share: float | None
    live: tuple[_Live, ...]
    recorded: Recorded | None
    photos: Array


def show(
    models: Sequence[Found],
    *,
    detectors: Sequence[Found] = (),
    threads: int | None = None,
    seconds: float = 12.0,
    progress: Progress = silent,
) -> DemoResult:
    """Everything the demo shows of some models.

    Parameters
    ----------
    models : sequence of Found
        Networks and ensembles. Answers of other forms are shown where a model has recorded ones. A network with 4-bit
        layers also runs in 8 bits, unless answers of an 8-bit form are recorded.
    detectors : sequence of Found
        Networks that find objects: their boxes are shown on three of the photos.
    threads : int, optional
        As for :class:`nybble.Engine`.
    seconds : float
        Time to measure speeds for, all networks and batch sizes together; five rounds are run anyway.
    progress : Progress
        Called with the next piece of work.

    Raises
    ------
    DemoError
        Where the photos or a model's preprocessing are missing, or its recorded answers are damaged.
    """
    import nybble

    photos = samples()
    progress("loading models", 0, None)
    opened = [_open(found, threads, [path for _, path in photos]) for found in models]
    progress("classifying photos", 0, None)
    answers: list[dict[str, list[Answer]]] = [{} for _ in photos]
    notes: list[str] = []
    for model in opened:
        notes += _recall(model, photos, answers)
        for form in model.live:
            _ask(form, model.photos, answers)
    boxed = tuple(_boxed(found, threads, photos) for found in detectors)
    watch = Watch()
    speeds = _speeds(opened, seconds, progress)
    taken = watch.taken()
    engine = opened[0].live[-1].engine
    return DemoResult(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=nybble.__version__,
        machine=describe(),
        isa=engine.isa,
        threads=engine.threads,
        networks=tuple(map(_network, opened)),
        photos=tuple(Shown(sample, path, said) for (sample, path), said in zip(photos, answers, strict=True)),
        speeds=tuple(speeds),
        disturbance=sum(taken.values()) if taken is not None else None,
        notes=tuple(notes),
        detectors=boxed,
    )


def constant_bytes(graph: Graph) -> int:
    """Bytes of all weights, biases, factors and scales, two 4-bit weights in one."""
    return sum(value.nbytes for node in graph for value in vars(node).values() if isinstance(value, Tensor))


def _open(found: Found, threads: int | None, paths: Sequence[Path]) -> _Opened:
    """Load a model, make its 8-bit form where none is recorded, and prepare the photos."""
    import nybble
    from nybble.graph.convert import to_bits

    begun = time.perf_counter()
    engine = nybble.load(found.path, threads=threads)
    taken = time.perf_counter() - begun
    if is_ensemble(found.path):
        ensemble = cast("Ensemble", engine)
        size = sum(constant_bytes(member.engine.graph) for member in ensemble.members)
        live = _Live(_column(found, "now", ensemble.kind, _HERE, size), engine)
        return _Opened(found, taken, None, (live,), None, _prepared(engine, paths))
    graph = engine.graph
    if graph.preprocessing is None:
        raise DemoError(f"{found.path}: the model has no file `preprocessing`, so it takes no photos")
    if graph.task is not None and graph.task.kind != "classify":
        raise DemoError(f"{found.path}: is not a classifier; run: nybble predict {found.name} PHOTO --save DIR")
    recorded = read_answers(found.path)
    share = four_bit_share(graph)
    forms = []
    if share and (recorded is None or _EIGHT not in recorded.forms):
        eight = to_bits(graph, 8)
        column = _column(found, _EIGHT, "8-bit", f"the 4-bit network in 8 bits, {_HERE}", constant_bytes(eight))
        forms.append(_Live(column, nybble.Engine(eight, threads=engine.threads)))
    forms.append(_Live(_column(found, "now", "4-bit" if share else "8-bit", _HERE, constant_bytes(graph)), engine))
    return _Opened(found, taken, share, tuple(forms), recorded, _prepared(engine, paths))


def _boxed(found: Found, threads: int | None, photos: Sequence[tuple[Sample, Path]]) -> Detector:
    """The boxes of a model that finds objects."""
    import nybble

    begun = time.perf_counter()
    engine = nybble.load(found.path, threads=threads)
    taken = time.perf_counter() - begun
    chosen = {sample.file: path for sample, path in photos if sample.file in _BOXED}
    boxes = {file: engine.detect(path).above(SURE) for file, path in chosen.items()}
    return Detector(found, taken, constant_bytes(engine.graph), boxes)


def _column(found: Found, key: str, label: str, how: str, size: int, *, recorded: bool = False) -> Column:
    return Column(f"{found.name} {key}", label, recorded, how, size)


def _prepared(engine: Engine, paths: Sequence[Path]) -> Array:
    """The photos as an engine takes them: uint8 (N, ...)."""
    return np.stack([engine.prepare(path) for path in paths])


def _network(model: _Opened) -> Network:
    """The results of a model."""
    recorded = model.recorded
    forms = recorded.forms.items() if recorded is not None else ()
    past = [_column(model.found, key, form.label, form.how, form.bytes, recorded=True) for key, form in forms]
    engine = model.live[-1].engine
    return Network(
        model=model.found,
        load_seconds=model.load_seconds,
        four_bit_share=model.share,
        judged=len(class_names(engine.graph)) == _IMAGENET,
        columns=(*past, *(form.column for form in model.live)),
        recorded=f"{recorded.made}, {recorded.command}" if recorded is not None else None,
        remark=_asked(cast("Ensemble", engine), model.photos) if is_ensemble(model.found.path) else "",
    )


def _asked(ensemble: Ensemble, photos: Array) -> str:
    """How many photos each member ran on."""
    asked = ensemble.answers(photos).asked
    counts = [f"{member.name} on {int((asked > place).sum())}" for place, member in enumerate(ensemble.members)]
    return f"ran {', '.join(counts)} of {len(asked)} photos"


def _recall(
    model: _Opened, photos: Sequence[tuple[Sample, Path]], answers: Sequence[dict[str, list[Answer]]]
) -> list[str]:
    """Add recorded answers to those of each photo; returns remarks on those that do not fit."""
    notes: list[str] = []
    if model.recorded is None:
        return notes
    name = model.found.name
    for (sample, path), said in zip(photos, answers, strict=True):
        known = model.recorded.photos.get(sample.file)
        if known is not None and known.sha256 == fingerprint(path):
            said |= {f"{name} {key}": answer[:TOP] for key, answer in known.answers.items()}
        else:
            notes.append(
                f"{name}: {sample.file}: answers were recorded for another version of this photo, or not at all"
            )
    return notes


def _ask(form: _Live, photos: Array, answers: Sequence[dict[str, list[Answer]]]) -> None:
    """Add what a form answers to each photo."""
    names = class_names(form.engine.graph)
    probabilities = softmax(form.engine(photos))
    for said, scores, best in zip(answers, probabilities, ranked(probabilities, TOP), strict=True):
        said[form.column.key] = [Answer(index=int(i), name=names[i], score=float(scores[i])) for i in best]


def _speeds(models: Sequence[_Opened], seconds: float, progress: Progress) -> list[Speed]:
    """Of every form that runs here."""
    contestants = [
        Contestant(model.found.name, form.column.label, form.engine, model.photos)
        for model in models
        for form in reversed(model.live)
    ]
    speeds: list[Speed] = []
    for batch in BATCHES:
        progress(f"measuring speed, batch {batch}", 0, None)
        speeds += measure_in_turns(contestants, batch, seconds / len(BATCHES))
    return speeds
