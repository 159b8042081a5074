"""Options and helpers for photos that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.errors import CommandError
from nybble.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from nybble.graph import Graph, Preprocessing
    from nybble.graph.types import Array
    from nybble.images import LeftOut, PhotoFiles

_KINDS = "one folder per class, a folder with labels.csv, or a list of lines `file label`"
Images = Annotated[
    Path,
    typer.Option("--images", metavar="PHOTOS", help=f"Photos with labels: {_KINDS}.", show_default=False),
]
UnlabelledImages = Annotated[
    Path,
    typer.Option("--images", metavar="PHOTOS", help="A folder of photos, or a list of them.", show_default=False),
]
OptionalImages = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="PHOTOS", help="A folder of photos, or a list of them.", show_default="seeded noise"
    ),
]
_LIMIT = "Use only the first N photos of --images; of class folders, the first of each class in turn."
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help=_LIMIT, show_default="all")]
#: For commands that do not need all photos.
SomeLimit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help=_LIMIT)]
Batch = Annotated[int, typer.Option("--batch", "-b", min=1, help="Photos in one batch.")]
Exif = Annotated[bool, typer.Option("--exif/--no-exif", help="Turn photos upright as their EXIF orientation says.")]


def preprocessing_of(graph: Graph) -> Preprocessing:
    """How photos are prepared for a network. Raises :class:`CommandError` where the model does not say."""
    if graph.preprocessing is None:
        raise CommandError("the model has no file `preprocessing`, so it takes no photos; see docs/format.md")
    return graph.preprocessing


def open_labelled(graph: Graph, images: Path, limit: int | None) -> PhotoFiles:
    """Photos with labels that are the network's classes."""
    from nybble.images import network_classes, open_photos

    return open_photos(images, limit, classes=network_classes(graph), labels=True)


def inputs_of(graph: Graph, images: Path | None, limit: int, exif: bool) -> tuple[Array, LeftOut]:
    """Integer inputs (N, C, H, W): the first photos of a collection, or seeded noise. And the photos left out."""
    from nybble.images import LeftOut, batches, integer_input, open_photos

    if images is None:
        from nybble.engine.noise import noise_inputs

        return noise_inputs(graph, limit), LeftOut()
    import numpy as np

    preprocessing = preprocessing_of(graph)
    photos = open_photos(images, limit)
    left_out = LeftOut(photos.left_out)
    inputs = [
        integer_input(samples, preprocessing)
        for samples, _ in batches(photos, preprocessing, exif=exif, left_out=left_out)
    ]
    left_out.check(len(inputs))
    return np.concatenate(inputs), left_out


def report_left_out(left_out: LeftOut) -> None:
    """Name photos that were left out, on standard error."""
    for line in left_out.lines():
        typer.echo(f"warning: {line}", err=True)


def end(left_out: LeftOut) -> None:
    """Exit with :attr:`ExitCode.LEFT_OUT` where photos were left out."""
    if left_out:
        raise typer.Exit(ExitCode.LEFT_OUT)
