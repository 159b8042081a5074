"""``nybble demo``: the answers of 4-bit networks for a few photos, and their speed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.model import Json, Threads
from nybble.cli.output import print_json, print_table, show_headline, table
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.demo import DemoResult, Detector, Network, Shown
    from nybble.models import Found


def demo(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="A model folder or file, an ensemble's TOML file, or the name of a model.",
            show_default="NYBBLE_MODEL, else all that is bundled",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path("demo.html"),
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="Time to measure speed for.")] = 12.0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Classify sample photos, find objects, measure speed, and write it all into one page.

    Two photos come with nybble, four more with scikit-image. Recorded answers of the float networks stand beside those
    of the networks that run.
    """
    from nybble.demo import show
    from nybble.files import HTML, check_free
    from nybble.models import DETECTOR, find
    from nybble.report import write_demo

    check_free(out, HTML)
    with one_bar() as progress:
        chosen = _chosen(model)
        detectors = [] if len(chosen) == 1 else [find(DETECTOR)._replace(why=chosen[0].why)]
        result = show(chosen, detectors=detectors, threads=threads, seconds=seconds, progress=progress)
    write_demo(out, result)
    if as_json:
        print_json({**result.document(), "page": str(out)})
        return
    _print(result)
    typer.echo(f"page     {out}")


def _chosen(model: str | None) -> list[Found]:
    """The model that is named; otherwise all bundled ones that classify."""
    from nybble.models import CASCADE, LARGER, MODEL_VARIABLE, find

    first = find(model, ensembles=True)
    if model is not None or os.environ.get(MODEL_VARIABLE):
        return [first]
    return [first, *(find(name, ensembles=True)._replace(why=first.why) for name in (LARGER, CASCADE))]


def _print(result: DemoResult) -> None:
    show_headline(result.warning)
    threads = f"{result.threads} thread{'s' if result.threads != 1 else ''}"
    typer.echo(f"engine   {result.isa}, {threads}")
    for network in result.networks:
        typer.echo("")
        _print_network(result, network)
    for detector in result.detectors:
        typer.echo("")
        _print_detector(detector)
    typer.echo("")
    for note in result.notes:
        typer.echo(f"note     {note}")
    grid = table("images/s, decoded photo to logits", "batch", "images/s", "", numbers=("batch", "images/s"))
    for speed in result.speeds:
        rounds = f"median of {speed.rounds} interleaved runs"
        what = f"{speed.network}, {speed.bits}"
        grid.add_row(what, str(speed.batch), f"{speed.images_per_second:.1f}", rounds)
    print_table(grid)
    typer.echo("")
    if result.has_eight_bit_instructions:
        typer.echo(
            "note     this processor has instructions for 8-bit integers that 4 bits lack: 8 bits may be as fast"
        )


def _print_network(result: DemoResult, network: Network) -> None:
    share = "" if network.four_bit_share is None else f", {network.four_bit_share:.1%} of MACs in 4 bits"
    typer.echo(
        f"model    {network.name} ({network.model.why}){share}, loaded in {network.load_seconds:.2f} s"
        f"{f', {network.remark}' if network.remark else ''}"
    )
    heads = [f"{column.label}{', recorded' if column.recorded else ', run now'}" for column in network.columns]
    grid = table("photo", *heads)
    for photo in result.photos:
        sample = photo.sample
        about = [sample.file, sample.shows, *([_verdict(photo, network)] if network.judged else [])]
        cells = [
            "\n".join(f"{answer.name} {answer.score:.1%}" for answer in photo.answers.get(column.key, []))
            for column in network.columns
        ]
        grid.add_row("\n".join(about), *cells)
        grid.add_section()
    print_table(grid)
    if network.judged:
        typer.echo(f"right    {_count(result.right(network.live.key))} photos that a class of ImageNet fits")
    for column in network.columns[:-1]:
        recorded = " (recorded)" if column.recorded else ""
        typer.echo(f"same     answer as {column.label}{recorded} on {_count(result.agreement(network, column.key))}")


def _print_detector(detector: Detector) -> None:
    typer.echo(f"model    {detector.model.name} ({detector.model.why}), loaded in {detector.load_seconds:.2f} s")
    grid = table("photo", "boxes")
    for file, found in detector.found.items():
        rows = found.to_json()["boxes"]
        grid.add_row(file, "\n".join(f"{row['name']} {row['score']:.1%}" for row in rows) or "none")
    print_table(grid)


def _verdict(photo: Shown, network: Network) -> str:
    match photo.is_right(network.live.key):
        case None:
            return "(no class fits)"
        case True:
            return "right"
        case _:
            return "WRONG"


def _count(pair: tuple[int, int]) -> str:
    return f"{pair[0]} of {pair[1]}"
