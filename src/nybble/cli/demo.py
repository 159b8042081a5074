"""``nybble demo``: a 4-bit network names what is on a few photos, and how fast it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.model import Json, Threads
from nybble.cli.output import console, print_json, show_headline, table
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.demo import DemoResult, Shown


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="A model folder or the name of a model.",
            show_default="NYBBLE_MODEL, else the bundled network",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("demo.html"),
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Time to measure speed for.")] = 12.0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Classify the photos that come with scikit-image, measure speed, and write it all into one page.

    Answers of the float and the 8-bit network stand beside those of the network that runs; they are recorded ones. The
    speeds of ResNet-50 in 4 and 8 bits are those of random weights, which recognise nothing.
    """
    from nybble.demo import show
    from nybble.files import HTML, check_free
    from nybble.models import find
    from nybble.report import write_demo

    check_free(out, HTML)
    with one_bar() as progress:
        result = show(find(model), threads=threads, seconds=seconds, progress=progress)
    write_demo(out, result)
    if as_json:
        print_json({**result.document(), "page": str(out)})
        return
    _print(result)
    typer.echo(f"page     {out}")


def _print(result: DemoResult) -> None:
    from nybble.demo.speed import RANDOM

    show_headline(result.warning)
    threads = f"{result.threads} thread{'s' if result.threads != 1 else ''}"
    typer.echo(f"model    {result.model.name} ({result.model.why}), {result.four_bit_share:.1%} of MACs in 4 bits")
    typer.echo(f"engine   {result.isa}, {threads}, loaded in {result.load_seconds:.2f} s")
    typer.echo("")
    heads = [f"{column.label}{', recorded' if column.recorded else ', run now'}" for column in result.columns]
    grid = table("photo", *heads)
    for photo in result.photos:
        sample = photo.sample
        about = [sample.file, sample.shows, *([_verdict(result, photo)] if result.judged else [])]
        cells = [
            "\n".join(f"{answer.name} {answer.score:.1%}" for answer in photo.answers.get(column.key, []))
            for column in result.columns
        ]
        grid.add_row("\n".join(about), *cells)
        grid.add_section()
    console().print(grid)
    typer.echo("")
    if result.judged:
        typer.echo(f"right    {_count(result.right(result.live.key))} photos that a class of ImageNet fits")
    for column in result.columns[:-1]:
        typer.echo(f"same     answer as {column.label} (recorded) on {_count(result.agreement(column.key))}")
    for note in result.notes:
        typer.echo(f"note     {note}")
    typer.echo("")
    grid = table("images/s, decoded photo to logits", "batch", "images/s", "", numbers=("batch", "images/s"))
    for speed in result.speeds:
        drawn = ", random weights: speed only" if speed.weights == RANDOM else ""
        what = f"{speed.network}, {speed.bits}{drawn}"
        rounds = f"median of {speed.rounds} interleaved runs"
        grid.add_row(what, str(speed.batch), f"{speed.images_per_second:.1f}", rounds)
    console().print(grid)
    typer.echo("")
    if result.has_eight_bit_instructions:
        typer.echo(
            "note     this processor has instructions for 8-bit integers that 4 bits lack: 8 bits may be as fast"
        )


def _verdict(result: DemoResult, photo: Shown) -> str:
    match photo.is_right(result.live.key):
        case None:
            return "(no class fits)"
        case True:
            return "right"
        case _:
            return "WRONG"


def _count(pair: tuple[int, int]) -> str:
    return f"{pair[0]} of {pair[1]}"
