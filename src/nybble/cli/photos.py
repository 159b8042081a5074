"""What several commands have in common: which photos, and how many of them at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.errors import CommandError

if TYPE_CHECKING:
    from nybble.graph import Graph, Preprocessing
    from nybble.graph.types import Array

Images = Annotated[
    Path, typer.Option("--images", metavar="DIR", help="Folder of photos with a labels.csv.", show_default=False)
]
OptionalImages = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Folder of photos with a labels.csv.", show_default="seeded noise"),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first photos of labels.csv.", show_default="all")
]
Batch = Annotated[int, typer.Option("--batch", "-b", min=1, help="Photos that go through the network together.")]


def preprocessing_of(graph: Graph) -> Preprocessing:
    """How photos are prepared for a network. Raises :class:`CommandError` where the model does not say."""
    if graph.preprocessing is None:
        raise CommandError("the model has no file `preprocessing`, so it takes no photos; see docs/format.md")
    return graph.preprocessing


def inputs_of(graph: Graph, images: Path | None, limit: int) -> Array:
    """Integer inputs (N, C, H, W): the first photos of a folder, or so many of seeded noise."""
    if images is None:
        from nybble.engine.noise import noise_inputs

        return noise_inputs(graph, limit)
    import numpy as np

    from nybble.images import LabelledFolder, batches, integer_input

    preprocessing = preprocessing_of(graph)
    folder = LabelledFolder(images, limit, classes=class_count(graph))
    return np.concatenate([integer_input(photos, preprocessing) for photos, _ in batches(folder, preprocessing)])


def class_count(graph: Graph) -> int:
    """Classes of the network: labels are smaller than that."""
    return graph.values[graph.outputs[0]].shape[0]
