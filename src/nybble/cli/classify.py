"""``nybble classify``: what is on these photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.model import CPU, Device, Json, Threads, load_engine
from nybble.cli.output import console, print_json, table
from nybble.cli.photos import Exif, end, report_left_out

if TYPE_CHECKING:
    from nybble import Engine
    from nybble.engine import Prediction
    from nybble.images import LeftOut

#: Photos that are decoded, at their own size, before the engine runs on them.
_TOGETHER = 8


def classify(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [IMAGE]...",
            help="Photos or folders of photos. A model folder, the name of a model or an ensemble's file may precede "
            "them.",
            show_default=False,
        ),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Classify the two photos that come with nybble as well.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to print for each photo.")] = 5,
    threads: Threads = None,
    device: Device = CPU,
    exif: Exif = True,
    as_json: Json = False,
) -> None:
    """Name what photos show, the likeliest class first; the score is its softmax probability.

    Photos are turned upright. Of several photos, those that cannot be decoded are reported and left out; the exit code
    is then 4. The default MODEL is the one that NYBBLE_MODEL names, else the bundled network.
    """
    from nybble.examples import example_photos

    examples = [str(photo) for photo in example_photos()] if example else []
    if not arguments and not examples:
        raise WrongUsageError("IMAGE is missing; name photos or folders, or try --example")
    model, named = split([*(arguments or []), *examples])
    if not named:
        raise WrongUsageError(f"{model} is a model; name photos after it (see nybble classify --help)")
    from nybble.images.errors import encodable
    from nybble.models import find

    chosen = find(model, ensembles=True)
    images = [image for path in named for image in photos_in(path)]
    engine = load_engine(chosen.path, threads, device)
    results, left_out = _classified(engine, images, top, exif)
    report_left_out(left_out)
    if as_json:
        photos = [
            {
                "file": str(image),
                "predictions": [
                    {"index": int(index), "name": name, "score": float(score)} for index, name, score in predictions
                ],
            }
            for image, predictions in results
        ]
        about = {"device": device, "left_out": left_out.to_json(), "exif": exif}
        print_json({"model": chosen.name, "isa": engine.isa, "threads": engine.threads, "photos": photos, **about})
        end(left_out)
        return
    grid = table("photo", "class", "name", "score", numbers=("class", "score"))
    for image, predictions in results:
        file = encodable(str(image))
        for rank, (index, name, score) in enumerate(predictions):
            grid.add_row(file if rank == 0 else "", str(index), name, f"{score:.1%}")
        grid.add_section()
    console().print(grid)
    end(left_out)


def _classified(
    engine: Engine, images: list[Path], top: int, exif: bool
) -> tuple[list[tuple[Path, list[Prediction]]], LeftOut]:
    """The classes of each photo that can be decoded, and the photos that cannot. Raises ImageError if none can."""
    from nybble.images import ImageError, LeftOut, decode_photo

    results: list[tuple[Path, list[Prediction]]] = []
    left_out = LeftOut()
    for first in range(0, len(images), _TOGETHER):
        decoded = []
        for image in images[first : first + _TOGETHER]:
            try:
                decoded.append((image, decode_photo(image, exif=exif)))
            except ImageError as error:
                left_out.add(str(image), error.message)
        if decoded:
            # The orientation was dealt with when they were decoded.
            found = engine.classify([photo for _, photo in decoded], top=top, exif=False)
            results += zip((image for image, _ in decoded), found, strict=True)
    left_out.check(len(results))
    return results, left_out


def split(arguments: list[str]) -> tuple[str | None, list[Path]]:
    """The model, if the first argument is one, and the photos or folders of them.

    The first argument is a model if it is the name of one, or a model folder. It is taken as one, and will be reported
    as missing, if nothing of that name exists, other arguments follow, and its suffix is not that of a photo.

    Raises
    ------
    WrongUsageError
        For an empty argument, or the name of a model behind photos.
    """
    from nybble.images.kinds import has_photo_suffix
    from nybble.models import names

    if "" in arguments:
        raise WrongUsageError("an argument is empty; name photos, or folders of photos")
    first, *rest = arguments
    for name in names():
        if name in rest and not Path(name).exists():
            raise WrongUsageError(f"{name} is a model; name it before the photos")
    path = Path(first)
    try:
        is_model = first in names() or _is_model(path.expanduser())
        is_meant = bool(rest) and not path.exists() and not has_photo_suffix(path.name)
    except (OSError, RuntimeError):  # A name too long, or a folder that may not be read: the photos' error says so.
        is_model = is_meant = False
    if is_model or is_meant:
        return first, [Path(image) for image in rest]
    return None, [Path(image) for image in arguments]


def photos_in(path: Path) -> list[Path]:
    """The photo itself, or the photos in a folder and its subfolders, in order of name.

    Files that are not photos, although their names do not tell, are included: they are reported as left out.

    Raises
    ------
    CommandError
        Where there is no such file, no photo in the folder, or the folder is a model's.
    """
    from nybble.images.scan import scan

    try:
        if not path.is_dir():
            if not path.exists():
                raise CommandError(f"{path}: there is no such file")
            return [path]
        if _is_model(path):
            raise WrongUsageError(f"{path}: is a model folder; name the model before the photos")
        found = scan(path)
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not found.files:
        raise CommandError(f"{path}: is not a model folder, and holds no photos")
    return sorted(path / name for name in (*(name for name, _ in found.files), *(file for file, _ in found.left_out)))


def _is_model(path: Path) -> bool:
    from nybble.graph.reading import is_model_file
    from nybble.models import is_ensemble

    return (
        is_ensemble(path)
        or is_model_file(path)
        or (path.is_dir() and any((path / place).is_file() for place in ("model", "model/model")))
    )
