"""``nybble classify``: what is on these photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.model import Json, Threads
from nybble.cli.output import console, print_json, table


def classify(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] IMAGE...",
            help="Photos; before them, if it is not the network that comes with nybble, a model folder or name.",
            show_default=False,
        ),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to print for each photo.")] = 5,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Name what is on photos, the likeliest class first; the score is its softmax probability.

    Without MODEL it is the network that NYBBLE_MODEL names, else the one that comes with nybble.
    """
    model, images = split(arguments)
    if not images:
        raise typer.BadParameter(f"{model} is a model; name photos after it", param_hint="IMAGE")
    import nybble
    from nybble.models import find

    chosen = find(model)
    engine = nybble.load(chosen.path, threads=threads)
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
        print_json({"model": chosen.name, "isa": engine.isa, "threads": engine.threads, "photos": photos})
        return
    grid = table("photo", "class", "name", "score", numbers=("class", "score"))
    for image, predictions in zip(images, results, strict=True):
        for rank, (index, name, score) in enumerate(predictions):
            grid.add_row(str(image) if rank == 0 else "", str(index), name, f"{score:.1%}")
        grid.add_section()
    console().print(grid)


def split(arguments: list[str]) -> tuple[str | None, list[Path]]:
    """The model, if the first argument is one, and the photos.

    A first argument is a model if it is a folder or the name of one, and also if it is no file while others follow:
    then it was meant to be one, or a photo whose name is wrong, and the error about the missing model says both.
    """
    from nybble.models import names

    first, *rest = arguments
    is_model = Path(first).expanduser().is_dir() or first in names()
    if is_model or (rest and not Path(first).exists()):
        return first, [Path(image) for image in rest]
    return None, [Path(image) for image in arguments]
