"""``nybble profile``: the time of every step, and what it does with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nybble.cli.model import CPU, Device, Json, Model, Threads, load_engine
from nybble.cli.output import print_json, print_table, show_disturbance, table
from nybble.cli.photos import Exif, OptionalImages, SomeLimit, end, inputs_of, report_left_out

if TYPE_CHECKING:
    from nybble.engine.profile import LayerProfile, Profile

#: The default of --limit: medians need several photos, but not many.
_PHOTOS = 10


def profile(
    model: Model = None,
    images: OptionalImages = None,
    limit: SomeLimit = _PHOTOS,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each photo.")] = 5,
    threads: Threads = None,
    device: Device = CPU,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Write a Chrome trace (JSON) here.", show_default=False),
    ] = None,
    exif: Exif = False,
    as_json: Json = False,
) -> None:
    """Time every step of a network, one photo at a time, and say which kernel ran and how many zeros it read.

    Times are medians over the runs of all photos. Without --images the inputs are seeded noise, whose zeros are not
    those of photos.
    """
    from nybble.disturbance import Watch, warning
    from nybble.engine.profile import profile as measure
    from nybble.engine.profile import trace_events
    from nybble.files import JSON, check_free, write_text
    from nybble.models import find
    from nybble.schemas import PROFILE

    chosen = find(model)
    if trace is not None:
        check_free(trace, JSON)
    engine = load_engine(chosen.path, threads, device)
    inputs, left_out = inputs_of(engine.graph, images, limit, exif)
    report_left_out(left_out)
    watch = Watch()
    found = measure(engine, inputs, runs)
    disturbance = watch.taken()
    if trace is not None:
        write_text(trace, json.dumps(trace_events(found)) + "\n", JSON)
    if as_json:
        inputs_of_run = str(images) if images else "noise"
        about: dict[str, Any] = {"schema": PROFILE, "model": chosen.name, "device": device, "inputs": inputs_of_run}
        about |= {"left_out": left_out.to_json(), "exif": exif}
        document = {**about, **_document(found), "disturbance": disturbance, "warning": warning(disturbance)}
        print_json(document)
        end(left_out)
        return
    show_disturbance(disturbance)
    grid = table(
        "step",
        "kernel",
        "ms",
        "share",
        "GMAC/s",
        "zeros",
        "zero pairs",
        numbers=("ms", "share", "GMAC/s", "zeros", "zero pairs"),
    )
    for layer in found.layers:
        grid.add_row(*_cells(layer))
    grid.add_section()
    grid.add_row("total", "", f"{found.seconds * 1e3:.3f}", "100.0%", f"{found.gmacs:.1f}")
    print_table(grid, lead=("step", "kernel"))
    what = f"photos of {images}" if images else "seeded noise, no photos: give --images for what photos take"
    typer.echo(f"{found.isa}, threads {found.threads}, {'tuned' if found.tuned else 'not tuned'}")
    typer.echo(f"medians of {found.runs} runs of each of {found.images} inputs: {what}")
    lists = sum(layer.seconds for layer in found.layers if layer.kind == "lists")
    of_it = f"; lists {lists * 1e3:.3f} ms of it" if device == CPU else ""
    typer.echo(f"a whole run takes {found.run_seconds * 1e3:.3f} ms{of_it}")
    if trace is not None:
        typer.echo(f"trace {trace}: open it in https://ui.perfetto.dev or chrome://tracing")
    end(left_out)


def _document(found: Profile) -> dict[str, Any]:
    return {
        "isa": found.isa,
        "threads": found.threads,
        "tuned": found.tuned,
        "images": found.images,
        "runs": found.runs,
        "seconds": found.seconds,
        "run_seconds": found.run_seconds,
        "macs": found.macs,
        "gmacs": found.gmacs,
        "layers": [asdict(layer) for layer in found.layers],
    }


def _cells(layer: LayerProfile) -> list[str]:
    from nybble.engine.profile import describe

    return [
        f"  lists of {layer.head}" if layer.kind == "lists" else layer.head,
        describe(layer.kernel) if layer.kernel else layer.kind,
        f"{layer.seconds * 1e3:.3f}",
        f"{layer.share:.1%}",
        f"{layer.gmacs:.1f}" if layer.gmacs is not None else "",
        f"{layer.zero_share:.1%}" if layer.zero_share is not None else "",
        f"{layer.zero_pair_share:.1%}" if layer.zero_pair_share is not None else "",
    ]
