"""Records what forms of a bundled network say to the demo's photos: its ``answers.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from records import show

from nybble.demo import ANSWERS, Answer, Form, PhotoAnswers, Recorded, samples, write_answers
from nybble.demo.photos import fingerprint
from nybble.engine.scores import ranked, softmax
from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.images import class_names

#: Answers kept of each photo.
TOP = 5
MODELS = Path(__file__).resolve().parents[2] / "models"


def top(logits: Array, graph: Graph) -> list[list[Answer]]:
    """The likeliest classes of each photo, scores to four decimals."""
    names = class_names(graph)
    scores = softmax(logits)
    return [
        [Answer(index=int(i), name=names[i], score=round(float(row[i]), 4)) for i in best]
        for row, best in zip(scores, ranked(scores, TOP), strict=True)
    ]


def write(
    network: str,
    script: str,
    packages: Sequence[str],
    forms: Mapping[str, Form],
    answers: Mapping[str, list[list[Answer]]],
    out: Path | None = None,
) -> None:
    """Write the file of a network.

    Parameters
    ----------
    network : str
    script : str
        Its name in ``benchmarks/accuracy``.
    packages : sequence of str
        Whose versions the answers depend on.
    forms : mapping
    answers : mapping
        For each form the answers to the sample photos, in their order.
    out : Path, optional
        By default that of the bundled network.
    """
    recorded = Recorded(
        network=network,
        made=f"{datetime.now(UTC):%Y-%m-%d}",
        command=f"python benchmarks/accuracy/{script}",
        software={name: version(name) for name in (*packages, "scikit-image", "nybble")},
        forms=dict(forms),
        photos={
            sample.file: PhotoAnswers(
                sha256=fingerprint(path), answers={form: found[place] for form, found in answers.items()}
            )
            for place, (sample, path) in enumerate(samples())
        },
    )
    place = out or MODELS / network / ANSWERS
    write_answers(place, recorded)
    for name, photo in recorded.photos.items():
        show(name, *(f"{form}: {best[0].name} {best[0].score:.1%}" for form, best in photo.answers.items()))
    show(f"in {place}")
