"""``nybble classify``: what is on these photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.model import Json, Threads
from nybble.cli.output import console, print_json, table


def classify(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] IMAGE...",
            help="Photos, or folders of photos; before them, if it is not the network that comes with nybble, "
            "a model folder or name.",
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
    model, named = split(arguments)
    if not named:
        raise WrongUsageError(f"{model} is a model; name photos after it (see nybble classify --help)")
    import nybble
    from nybble.models import find

    chosen = find(model)
    images = [image for path in named for image in photos_in(path)]
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
    """The model, if the first argument is one, and the photos or folders of them.

    A first argument is a model if it is the name of one or a model folder. It is meant as one if there is nothing of
    that name, others follow, and it does not end as a photo does.
    """
    from nybble.models import names

    first, *rest = arguments
    path = Path(first)
    try:
        is_model = first in names() or _is_model(path.expanduser())
        is_meant = bool(rest) and not path.exists() and path.suffix.lower() not in _suffixes()
    except (OSError, RuntimeError):  # A name too long, or a folder that may not be read: the photos' error says so.
        is_model = is_meant = False
    if is_model or is_meant:
        return first, [Path(image) for image in rest]
    return None, [Path(image) for image in arguments]


def photos_in(path: Path) -> list[Path]:
    """The photo itself, or those that lie in a folder, in the order of their names.

    Raises
    ------
    CommandError
        Where there is no such file, or no photo in the folder.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                raise CommandError(f"{path}: there is no such file")
            return [path]
        suffixes = _suffixes()
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        found = [entry for entry in entries if entry.suffix.lower() in suffixes and entry.is_file()]
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not found:
        raise CommandError(f"{path}: is no model folder and holds no photos")
    return sorted(found)


def _is_model(path: Path) -> bool:
    return path.is_dir() and any((path / place).is_file() for place in ("model", "model/model"))


def _suffixes() -> frozenset[str]:
    """Suffixes of the formats that Pillow reads."""
    from PIL import Image

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)
