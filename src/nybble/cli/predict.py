"""``nybble predict``: the answers of a network of any task for photos and videos."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.inputs import STDIN, MissingError, photos_in, split
from nybble.cli.model import CPU, Device, Json, Threads, load_engine
from nybble.cli.output import json_text
from nybble.cli.photos import Exif, end, report_left_out
from nybble.cli.rows import JSON, JSONL, TABLE, Format, Output, chosen_format, json_line, lines_to

if TYPE_CHECKING:
    from nybble.images import LeftOut, PhotoSource
    from nybble.tasks import Answer

#: Answers of tasks differ too much for one CSV file.
_FORMATS = (TABLE, JSON, JSONL)


class _Item(NamedTuple):
    """A photo or a frame: what it is called, and where its drawing goes below the folder of ``--save``."""

    name: str
    drawing: Path
    photo: PhotoSource


def predict(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [INPUT]...",
            help="Photos, folders of photos, patterns such as 'photos/*.jpg', videos, or - for a photo on standard "
            "input. A model folder or file or the name of a model may precede them.",
            show_default=False,
        ),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Take the two photos that come with nybble as well.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="DIR",
            help="Write each photo with its boxes, masks or text drawn, or the restored image, into this folder.",
            show_default=False,
        ),
    ] = None,
    score: Annotated[
        float, typer.Option("--score", min=0, max=1, help="Least score of a box that is printed or drawn.")
    ] = 0.3,
    file_format: Format = None,
    output: Output = None,
    threads: Threads = None,
    device: Device = CPU,
    exif: Exif = True,
    as_json: Json = False,
) -> None:
    """Say what photos show: classes, boxes, masks, text, a restored image or a vector, by the model's task.

    Videos need `pip install 'nybble[video]'`, text needs `nybble[text]`. Inputs that cannot be decoded are reported and
    left out; the exit code is then 4. JSON lines are written while photos are read, one for each photo or frame; CSV is
    not offered.
    """
    from nybble.examples import example_photos

    form = chosen_format(file_format, output, as_json, _FORMATS)
    examples = [str(photo) for photo in example_photos()] if example else []
    if not arguments and not examples:
        raise WrongUsageError("INPUT is missing; name photos, folders or videos, or try --example")
    model, named = split([*(arguments or []), *examples])
    if not named:
        raise WrongUsageError(f"{model} is a model; name photos after it (see nybble predict --help)")
    from nybble.engine.predicting import predict as predicted
    from nybble.images import ImageError, LeftOut
    from nybble.models import find, is_ensemble
    from nybble.tasks import task_of

    chosen = find(model)
    if is_ensemble(chosen.path):
        raise WrongUsageError(f"{chosen.path}: is an ensemble; `nybble classify` runs it")
    engine = load_engine(chosen.path, threads, device)
    kind = task_of(engine.graph).kind
    if save is not None:
        _check_folder(save)
    left_out, count = LeftOut(), 0
    photos: list[dict[str, Any]] = []
    with lines_to(output) as write:
        for item in _items(named, left_out):
            try:
                answer = predicted(engine, item.photo, exif=exif, score_threshold=score if kind == "detect" else None)
                drawn = None if save is None else _save(answer, item, save, score)
            except ImageError as error:
                left_out.add(item.name, error.message)
                continue
            count += 1
            found = {"file": item.name, "task": kind, **answer.to_json()}
            if drawn is not None:
                found["saved"] = str(drawn)
            if form == JSON:
                photos.append(found)
            else:
                write(json_line(found) if form == JSONL else "\n".join(_text(found)))
        left_out.check(count)
        if form == JSON:
            about = {"model": chosen.name, "task": kind, "isa": engine.isa, "threads": engine.threads}
            write(json_text({**about, "photos": photos, "left_out": left_out.to_json(), "exif": exif}))
    report_left_out(left_out)
    end(left_out)


def _items(named: list[Path], left_out: LeftOut) -> Iterator[_Item]:
    """All photos and frames. A video that cannot be decoded to its end is left out from there on."""
    from nybble.images import ImageError
    from nybble.images.errors import encodable
    from nybble.tasks.video import frames, is_video

    for given in named:
        if str(given) == STDIN:
            yield _Item(STDIN, Path("stdin.png"), sys.stdin.buffer.read())
            continue
        if given.is_file() and is_video(given):
            try:
                for frame in frames(given):
                    place = Path(given.name) / f"{frame.number:06d}.png"
                    yield _Item(f"{encodable(str(given))}#{frame.number}", place, frame.samples)
            except ImageError as error:
                left_out.add(str(given), error.message)
            continue
        for path in photos_in(given) if len(named) == 1 else _present(given, left_out):
            place = path.relative_to(given) if given.is_dir() else Path(path.name)
            yield _Item(encodable(str(path)), place.with_name(f"{place.name}.png"), path)


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: cannot be made: {error.strerror or error}") from error


def _save(answer: Answer, item: _Item, folder: Path, score: float) -> Path:
    """Write the drawing; returns its path."""
    from nybble.files import PNG, write
    from nybble.tasks import Detections

    image = answer.draw(item.photo, score) if isinstance(answer, Detections) else answer.draw(item.photo)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    path = folder / item.drawing
    _check_folder(path.parent)
    write(path, buffer.getvalue(), PNG)
    return path


def _present(given: Path, left_out: LeftOut) -> list[Path]:
    """The photos of one of several arguments; one that names nothing is left out."""
    try:
        return photos_in(given)
    except MissingError as error:
        left_out.add(str(given), error.reason)
        return []


def _text(found: dict[str, Any]) -> Iterator[str]:
    """An answer as lines for people."""
    yield found["file"]
    for line in _lines(found):
        yield f"  {line}"
    if "saved" in found:
        yield f"  saved {found['saved']}"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """An answer in words, one fact a line."""
    for entry in found.get("boxes", ()):
        left, top, right, bottom = entry["box"]
        yield f"{entry['score']:6.1%}  {entry['name']}  {left:.0f} {top:.0f} {right:.0f} {bottom:.0f}"
    for entry in found.get("texts", ()):
        corners = " ".join(f"{x:.0f},{y:.0f}" for x, y in entry["corners"])
        yield f"{entry['score']:6.1%}  {corners}"
    for entry in found.get("classes", ()):
        if "pixels" in entry:
            yield f"{entry['pixels']:8d} pixels  {entry['name']}"
        else:
            yield f"{entry['score']:6.1%}  {entry['name']}"
    if "embedding" in found:
        yield f"vector of {len(found['embedding'])} numbers"
    elif "size" in found and found["task"] == "restore":
        rows, columns, channels = found["size"]
        yield f"image of {columns}x{rows} pixels, {channels} channel{'s' * (channels != 1)}"
