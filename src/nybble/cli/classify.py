"""``nybble classify``: what is on these photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.model import Json, Model, Threads, locate
from nybble.cli.output import console, print_json, table


def classify(
    model: Model,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photos.", show_default=False)],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to print for each photo.")] = 5,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Name what is on photos, the likeliest class first; the score is its softmax probability."""
    path = locate(model)
    import nybble

    engine = nybble.load(path, threads=threads)
    results = engine.classify(images, top=top)
    if as_json:
        photos = [
            {
                "file": str(image),
                "predictions": [
                    {"index": int(index), "name": name, "score": float(score)} for index, name, score in predictions
                ],
            }
            for image, predictions in zip(images, results, strict=True)
        ]
        print_json({"model": model, "isa": engine.isa, "threads": engine.threads, "photos": photos})
        return
    grid = table("photo", "class", "name", "score", numbers=("class", "score"))
    for image, predictions in zip(images, results, strict=True):
        for rank, (index, name, score) in enumerate(predictions):
            grid.add_row(str(image) if rank == 0 else "", str(index), name, f"{score:.1%}")
        grid.add_section()
    console().print(grid)
