"""``nybble classify``: what is on these photos."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nybble.cli.errors import WrongUsageError
from nybble.cli.inputs import STDIN, photos_named, split
from nybble.cli.model import CPU, Device, Json, Threads, load_engine
from nybble.cli.output import json_text, print_table, table
from nybble.cli.photos import Exif, end, report_left_out
from nybble.cli.progress import one_bar
from nybble.cli.rows import TABLE, Format, Output, chosen_format, csv_line, json_line, lines_to
from nybble.progress import silent

if TYPE_CHECKING:
    from PIL import Image

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
            help="Photos, folders of photos, patterns such as 'photos/**/*.jpg', or - for a photo on standard input. A "
            "model folder or file, the name of a model or an ensemble's file may precede them.",
            show_default=False,
        ),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Classify the two photos that come with nybble as well.")
    ] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Classes to print for each photo.")] = 5,
    file_format: Format = None,
    output: Output = None,
    threads: Threads = None,
    device: Device = CPU,
    exif: Exif = True,
    as_json: Json = False,
) -> None:
    """Name what photos show, the likeliest class first; the score is its softmax probability.

    Photos are turned upright. Of several photos, those that are missing or cannot be decoded are reported and left out;
    the exit code is then 4. The default MODEL is the one that NYBBLE_MODEL names, else the bundled network.

    JSON lines and CSV are written while photos are classified, any number of them.
    """
    from nybble.examples import example_photos

    form = chosen_format(file_format, output, as_json)
    examples = [str(photo) for photo in example_photos()] if example else []
    if not arguments and not examples:
        raise WrongUsageError("IMAGE is missing; name photos or folders, or try --example")
    model, named = split([*(arguments or []), *examples])
    if not named:
        raise WrongUsageError(f"{model} is a model; name photos after it (see nybble classify --help)")
    from nybble.images import LeftOut
    from nybble.models import find

    chosen = find(model, ensembles=True)
    left_out = LeftOut()
    images = photos_named(named, left_out)
    engine = load_engine(chosen.path, threads, device)
    with lines_to(output) as write:
        answers = _answers(engine, images, top, exif, left_out, is_shown=form == TABLE or output is not None)
        match form:
            case "json":
                photos = [_entry(file, predictions) for file, predictions in answers]
                about: dict[str, Any] = {"model": chosen.name, "isa": engine.isa, "threads": engine.threads}
                left_out.check(len(photos))
                about |= {"photos": photos, "device": device, "left_out": left_out.to_json(), "exif": exif}
                write(json_text(about))
                count = len(photos)
            case "jsonl":
                count = _each(answers, lambda file, predictions: write(json_line(_entry(file, predictions))))
            case "csv":
                write(csv_line(["file", "rank", "index", "name", "score"]))
                count = _each(answers, lambda file, predictions: _write_rows(write, file, predictions))
            case _:
                count = _print_table(answers)
        left_out.check(count)
    report_left_out(left_out)
    end(left_out)


def _answers(
    engine: Engine, images: Sequence[Path], top: int, exif: bool, left_out: LeftOut, *, is_shown: bool
) -> Iterator[tuple[str, list[Prediction]]]:
    """The name and the classes of each photo that can be decoded, as they come; the others go to ``left_out``."""
    from nybble.images.errors import encodable

    # Lines of a bar and of answers would mix on a terminal; a bar for a few photos costs more than it tells.
    is_shown = (is_shown or not sys.stdout.isatty()) and len(images) > _TOGETHER
    with one_bar(rate=True) if is_shown else nullcontext(silent) as bar:
        for first in range(0, len(images), _TOGETHER):
            some = images[first : first + _TOGETHER]
            decoded = [(image, photo) for image in some if (photo := _decoded(image, exif, left_out)) is not None]
            if decoded:
                # The orientation was dealt with when they were decoded.
                found = engine.classify([photo for _, photo in decoded], top=top, exif=False)
                for (image, _), predictions in zip(decoded, found, strict=True):
                    yield encodable(str(image)), predictions
            bar("classifying", first + len(some), len(images))


def _decoded(image: Path, exif: bool, left_out: LeftOut) -> Image.Image | None:
    from nybble.images import ImageError, decode_photo

    try:
        return decode_photo(sys.stdin.buffer.read() if str(image) == STDIN else image, exif=exif)
    except ImageError as error:
        left_out.add(str(image), error.message)
        return None


def _each(answers: Iterator[tuple[str, list[Prediction]]], write: Callable[[str, list[Prediction]], None]) -> int:
    """Write all answers; returns how many there are."""
    count = 0
    for file, predictions in answers:
        write(file, predictions)
        count += 1
    return count


def _entry(file: str, predictions: list[Prediction]) -> dict[str, Any]:
    found = [{"index": int(index), "name": name, "score": float(score)} for index, name, score in predictions]
    return {"file": file, "predictions": found}


def _write_rows(write: Callable[[str], None], file: str, predictions: list[Prediction]) -> None:
    for rank, (index, name, score) in enumerate(predictions, 1):
        write(csv_line([file, rank, int(index), name, f"{score:.6f}"]))


def _print_table(answers: Iterator[tuple[str, list[Prediction]]]) -> int:
    found = list(answers)
    grid = table("photo", "class", "name", "score", numbers=("class", "score"))
    for file, predictions in found:
        for rank, (index, name, score) in enumerate(predictions):
            grid.add_row(file if rank == 0 else "", str(index), name, f"{score:.1%}")
        grid.add_section()
    if found:
        print_table(grid)
    return len(found)
