"""The 4-bit engine beside ONNX Runtime, INT8 and FP32: one network, the same photos, turn by turn.

``python benchmarks/against_onnxruntime.py --help``; what is measured and how stands in ``benchmarks/README.md``.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import Progress

import machine
import work
from nybble.cli.output import console, progress, table
from nybble.graph import NybbleError
from race import Contestant, ContestantError, Runs, Spread, ratios, take_turns

RESULTS = Path(__file__).with_name("results")
#: Part of the processor time in other hands above which the output warns.
DISTURBED = 0.05
#: The engine that the ratios are about, and the peer that they are against.
OURS = "nybble 4-bit"
INT8 = "ONNX Runtime INT8"
FP32 = "ONNX Runtime FP32"
KEYS = {"nybble": OURS, "int8": INT8, "fp32": FP32}


def main(
    model: Annotated[
        str | None, typer.Option(help="Model folder or fetched model; else as `nybble demo` finds one.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Labelled photos; else photos-500, else noise.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Labelled photos that the INT8 model is made with.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each contestant.")] = 2,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Batch size; repeat it for several.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each contestant at each batch size.")] = 16,
    photos_per_round: Annotated[int, typer.Option(min=1, help="Photos in a turn, other ones each round.")] = 32,
    only: Annotated[list[str] | None, typer.Option(help="Contestants: nybble, int8, fp32; repeat it.")] = None,
    output: Annotated[Path | None, typer.Option(help="The JSON result; else benchmarks/results/.")] = None,
) -> None:
    """Time nybble and ONNX Runtime in turns on the same photos and print speeds, ratios and accuracies."""
    names = [
        KEYS[key] if key in KEYS else _fail(f"--only {key}: choose from {', '.join(KEYS)}") for key in only or KEYS
    ]
    sizes = batch or [1, 8]
    RESULTS.mkdir(exist_ok=True)
    try:
        result, runs, labels = _measure(model, images, calibration, threads, sizes, rounds, photos_per_round, names)
    except (NybbleError, ContestantError) as error:
        _fail(str(error))
    _summarise(result, runs, names, sizes, labels)
    path = output or RESULTS / f"against_onnxruntime-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(result, indent=2))
    part.replace(path)
    _show(result, names, sizes)
    typer.echo(f"\nresult   {path}")


def _measure(
    model: str | None,
    images: Path | None,
    calibration: Path | None,
    threads: int,
    sizes: list[int],
    rounds: int,
    photos_per_round: int,
    names: list[str],
) -> tuple[dict[str, Any], dict[tuple[str, int], Runs], list[int] | None]:
    network = work.network(model, RESULTS)
    typer.echo(f"network  {network.source}")
    photos = work.photos(images, network.preprocessing)
    typer.echo(f"photos   {photos.source}")
    if INT8 in names or FP32 in names:
        typer.echo("peers    ONNX Runtime's models of the same network (made once, about two minutes)")
        peers = work.peers(network, RESULTS, calibration, threads)
    else:
        peers = None
    samples = RESULTS / "photos.npy"
    np.save(samples, photos.samples)
    order = np.resize(np.arange(len(photos.samples)), (rounds, min(photos_per_round, len(photos.samples)))).tolist()
    about = machine.describe()
    used = machine.usage()
    begun = time.perf_counter()
    runs: dict[tuple[str, int], Runs] = {}
    with ExitStack() as stack:
        contestants = []
        for name in names:
            path = network.path if name == OURS else peers.float_path if name == FP32 else peers.int8.chosen.path
            engine = "nybble" if name == OURS else "onnxruntime"
            contestant = Contestant(name, engine, Path(path), samples, network.preprocessing, threads)
            contestants.append(stack.enter_context(contestant))
        bar: Progress = stack.enter_context(progress())
        task = bar.add_task("rounds", total=rounds * len(sizes))
        for size in sizes:
            for _ in take_turns(contestants, order, size, runs):
                bar.advance(task)
        loaded = {contestant.name: contestant.about for contestant in contestants}
    about["load_average_after"] = machine.describe()["load_average"]
    about["disturbance"] = machine.disturbance(used, machine.usage())
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "network": network.source,
        "photos": photos.source,
        "threads": threads,
        "rounds": rounds,
        "photos_per_round": len(order[0]),
        "seconds": round(time.perf_counter() - begun, 1),
        "contestants": loaded,
        "int8_choice": None if peers is None else _choice(peers),
    }
    return result, runs, photos.labels


def _choice(peers: work.Peers) -> dict[str, Any]:
    return {
        "chosen": peers.int8.chosen.name,
        "float_selection_top1": peers.int8.float_top1,
        "candidates": [
            {
                "name": entry.name,
                "selection_top1": entry.top1,
                "images_per_second": entry.images_per_second,
                "ops": entry.ops,
            }
            for entry in peers.int8.candidates
        ],
    }


def _summarise(
    result: dict[str, Any],
    runs: dict[tuple[str, int], Runs],
    names: list[str],
    sizes: list[int],
    labels: list[int] | None,
) -> None:
    result["speeds"] = [
        {
            "contestant": name,
            "batch": size,
            "images_per_second": _spread(Spread.of(runs[name, size].images_per_second)),
            "rounds": runs[name, size].images_per_second,
            "top1": runs[name, size].top1(labels),
            "photos": len(runs[name, size].predictions),
        }
        for size in sizes
        for name in names
    ]
    result["ratios"] = [
        {"of": names[0], "to": other, "batch": size, **_spread(ratios(runs, names[0], other, size))}
        for size in sizes
        for other in names[1:]
    ]


def _spread(spread: Spread) -> dict[str, Any]:
    return {"median": spread.median, "quartiles": spread.quartiles, "extremes": spread.extremes}


def _show(result: dict[str, Any], names: list[str], sizes: list[int]) -> None:
    about = result["machine"]
    taken = about["disturbance"]
    typer.echo(f"machine  {about['cpu']} ({about['family_model']}), {about['usable_cpus']} CPUs, {about['system']}")
    typer.echo(f"         {' '.join(about['flags'])}; without {' '.join(about['missing_flags']) or 'none of interest'}")
    if taken is not None:
        others, guests = taken["other_processes"], taken["other_guests"]
        typer.echo(f"         other processes used {others:.1%} of it, other guests of the host {guests:.1%}")
        if others + guests > DISTURBED:
            typer.echo("WARNING  the machine was not quiet: these ratios hold for nothing but this moment")
    for name in names:
        told = result["contestants"][name]
        typer.echo(f"{name}: {told['version']}{', ' + told['isa'] if 'isa' in told else ''}")
    if result["int8_choice"] is not None and INT8 in names:
        typer.echo(f"{INT8}: {result['int8_choice']['chosen']}, the fastest of its right candidates here")
    title = f"{result['threads']} threads, {result['rounds']} rounds of {result['photos_per_round']} photos in turns"
    speeds = {(entry["contestant"], entry["batch"]): entry for entry in result["speeds"]}
    measured = {(entry["to"], entry["batch"]): entry for entry in result["ratios"]}
    numbers = ("batch", "images/s", "quartiles", "best", f"{names[0]} is", "between", "top-1")
    grid = table(numbers[0], "contestant", *numbers[1:], numbers=numbers)
    grid.title = title
    for size in sizes:
        for name in names:
            speed, ratio = speeds[name, size], measured.get((name, size))
            spread = speed["images_per_second"]
            grid.add_row(
                str(size),
                name,
                f"{spread['median']:.1f}",
                f"{spread['quartiles'][0]:.1f} to {spread['quartiles'][1]:.1f}",
                f"{spread['extremes'][1]:.1f}",
                "" if ratio is None else f"{ratio['median']:.2f}x",
                "" if ratio is None else f"{ratio['quartiles'][0]:.2f} to {ratio['quartiles'][1]:.2f}",
                "unknown" if speed["top1"] is None else f"{speed['top1']:.1%} of {speed['photos']}",
            )
    console().print(grid)


def _fail(message: str) -> Any:
    typer.echo(f"against_onnxruntime: {message}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
