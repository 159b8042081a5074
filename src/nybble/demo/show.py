"""Run the demo: classify the sample photos, look up recorded answers, measure speeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nybble.bench.machine import describe
from nybble.demo.answers import Answer, Form, Recorded, read_answers
from nybble.demo.errors import DemoError
from nybble.demo.photos import Sample, fingerprint, samples
from nybble.demo.result import Column, DemoResult, Shown
from nybble.demo.speed import OWN, RANDOM, Contestant, Speed, measure_in_turns
from nybble.disturbance import Watch
from nybble.graph import Graph, Tensor
from nybble.graph.macs import four_bit_share
from nybble.images import class_names, load_photo
from nybble.models import Found
from nybble.progress import Progress, silent

if TYPE_CHECKING:
    from nybble.engine import Engine

#: Answers to each photo.
TOP = 3
BATCHES = (1, 8)
#: Classes of ImageNet-1k, in which the sample photos' classes are counted.
_IMAGENET = 1000


def show(found: Found, *, threads: int | None = None, seconds: float = 12.0, progress: Progress = silent) -> DemoResult:
    """Everything the demo shows of a model.

    Parameters
    ----------
    found : Found
        The model that runs. Answers of its other forms are shown where it brings recorded ones.
    threads : int, optional
        As for :class:`nybble.Engine`.
    seconds : float
        Time to measure speeds for, all networks and batch sizes together; five rounds are run anyway.
    progress : Progress
        Told what comes next.

    Raises
    ------
    DemoError
        Where the photos or the model's preprocessing are missing, or its recorded answers are damaged.
    """
    import nybble

    photos = samples()
    recorded = read_answers(found.path)
    progress("classifying photos", 0, None)
    begun = time.perf_counter()
    engine = nybble.load(found.path, threads=threads)
    load_seconds = time.perf_counter() - begun
    graph = engine.graph
    if graph.preprocessing is None:
        raise DemoError(f"{found.path}: the model has no file `preprocessing`, so it takes no photos")
    share = four_bit_share(graph)
    live = Column("now", "4-bit" if share else "8-bit", False, "run here, now, by nybble", constant_bytes(graph))
    shown, notes = _answered(engine, photos, recorded, live)
    watch = Watch()
    speeds = _speeds(engine, live, _network(found), [path for _, path in photos], seconds, progress)
    taken = watch.taken()
    columns = [Column(key, form.label, True, form.how, form.bytes) for key, form in _forms(recorded)]
    return DemoResult(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        version=nybble.__version__,
        machine=describe(),
        model=found,
        isa=engine.isa,
        threads=engine.threads,
        load_seconds=load_seconds,
        four_bit_share=share,
        judged=len(class_names(graph)) == _IMAGENET,
        columns=(*columns, live),
        photos=tuple(shown),
        speeds=tuple(speeds),
        disturbance=sum(taken.values()) if taken is not None else None,
        recorded=f"{recorded.made}, {recorded.command}" if recorded is not None else None,
        notes=tuple(notes),
    )


def constant_bytes(graph: Graph) -> int:
    """Bytes of all weights, biases, factors and scales, two 4-bit weights in one."""
    return sum(value.nbytes for node in graph for value in vars(node).values() if isinstance(value, Tensor))


def _network(found: Found) -> str:
    return found.path.parent.name if found.path.name == "model" else found.path.name


def _forms(recorded: Recorded | None) -> list[tuple[str, Form]]:
    return list(recorded.forms.items()) if recorded is not None else []


def _answered(
    engine: Engine, photos: Sequence[tuple[Sample, Path]], recorded: Recorded | None, live: Column
) -> tuple[list[Shown], list[str]]:
    """Each photo with the answers to it, and remarks on recorded ones that do not fit."""
    shown, notes = [], []
    predictions = engine.classify([path for _, path in photos], top=TOP)
    for (sample, path), best in zip(photos, predictions, strict=True):
        answers: dict[str, list[Answer]] = {}
        known = recorded.photos.get(sample.file) if recorded is not None else None
        if known is not None and known.sha256 == fingerprint(path):
            answers |= {key: answer[:TOP] for key, answer in known.answers.items()}
        elif recorded is not None:
            notes.append(f"{sample.file}: answers were recorded for another version of this photo, or not at all")
        answers[live.key] = [Answer(index=int(index), name=name, score=float(score)) for index, name, score in best]
        shown.append(Shown(sample, path, answers))
    return shown, notes


def _speeds(
    engine: Engine, live: Column, network: str, paths: Sequence[Path], seconds: float, progress: Progress
) -> list[Speed]:
    """Of what runs, and of ResNet-50 with drawn weights in 4 and 8 bits."""
    import nybble
    from nybble import synthetic
    from nybble.graph.convert import to_bits

    progress("drawing the weights of ResNet-50", 0, None)
    four = synthetic.resnet50()
    contestants = [_contestant(engine, network, live.label, OWN, paths)]
    for graph, bits in ((four, "4-bit"), (to_bits(four, 8), "8-bit")):
        runner = nybble.Engine(graph, threads=engine.threads)
        contestants.append(_contestant(runner, "ResNet-50 v1.5", bits, RANDOM, paths))
    speeds: list[Speed] = []
    for batch in BATCHES:
        progress(f"measuring speed, batch {batch}", 0, None)
        speeds += measure_in_turns(contestants, batch, seconds / len(BATCHES))
    return speeds


def _contestant(engine: Engine, network: str, bits: str, weights: str, paths: Sequence[Path]) -> Contestant:
    preprocessing = engine.graph.preprocessing
    if preprocessing is None:
        raise DemoError(f"{network}: the model says nothing of its preprocessing, so it takes no photos")
    photos = np.stack([load_photo(path, preprocessing) for path in paths])
    return Contestant(network, bits, weights, engine, photos)
