"""``nybble tune``: measure kernels on this machine, and store the fastest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.errors import CommandError
from nybble.cli.model import CPU, Device, Json, Model, Threads
from nybble.cli.output import print_json, print_table, show_disturbance, table
from nybble.cli.photos import Exif, OptionalImages, SomeLimit, end, inputs_of, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.backends.cpu.tune import Tuning

#: The default of --limit: enough photos to tell which channels go together.
_PHOTOS = 64


def tune(
    model: Model = None,
    images: OptionalImages = None,
    limit: SomeLimit = _PHOTOS,
    threads: Threads = None,
    device: Device = CPU,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Approximate time to measure for.")] = 60,
    exif: Exif = False,
    as_json: Json = False,
) -> None:
    """Find the fastest kernels and channel orders for a model on this machine, and store them.

    Commands and `nybble.load` use them from then on; results stay the same bit for bit. Choices stored before are kept
    unless new ones are faster in three quarters of the runs. They apply to this model, processor, instruction set,
    number of threads and version of nybble, and are stored in the cache folder; NYBBLE_TUNED=0 ignores them. Photos
    should resemble those to come, but not be those that accuracy is measured on. Without --images the inputs are seeded
    noise, and channel orders stay as they are.

    With --device cuda, the kernels of each convolution are measured on the GPU and stored for this model and GPU.
    """
    if device != CPU:
        _tune_gpu(model, images, limit, device, seconds, exif, as_json)
        return
    from nybble.backends.cpu.key import make_key
    from nybble.backends.cpu.tune import tune as search
    from nybble.backends.cpu.tuned import check_writable, load_choices, path_of, save_choices
    from nybble.disturbance import Watch, warning
    from nybble.engine import Engine
    from nybble.graph import read_graph
    from nybble.models import find

    chosen = find(model)
    graph = read_graph(chosen.path)
    inputs, left_out = inputs_of(graph, images, limit, exif)
    report_left_out(left_out)
    with Engine(graph, threads=threads, tuned=False) as engine:
        isa, count = engine.isa, engine.threads
    stored = load_choices(graph, isa, count)
    check_writable()
    watch = Watch()
    with one_bar() as progress:
        found = search(
            graph,
            inputs,
            threads=count,
            isa=isa,
            seconds=seconds,
            orders=images is not None,
            stored=stored,
            progress=progress,
        )
    disturbance = watch.taken()
    is_kept = found.chosen == "stored"
    file = path_of(make_key(graph, isa, count)) if is_kept else save_choices(graph, isa, count, found.choices)
    if as_json:
        kernels = {
            name: {"default": asdict(default), "tuned": asdict(found.choices.kernels.get(name, default))}
            for name, default in found.defaults.items()
        }
        print_json(
            {
                "model": chosen.name,
                "inputs": str(images) if images else "noise",
                "images": len(inputs),
                "left_out": left_out.to_json(),
                "exif": exif,
                "isa": isa,
                "threads": count,
                "chosen": found.chosen,
                "against_stored": found.against_stored._asdict() if found.against_stored else None,
                "speedups": found.speedups,
                "milliseconds": found.milliseconds,
                "runs": found.runs,
                "non_zero_pair_shares": list(found.pair_shares) if found.pair_shares else None,
                "kernels": kernels,
                "reordered": sorted(found.choices.orders),
                "file": str(file),
                "disturbance": disturbance,
                "warning": warning(disturbance),
            }
        )
        end(left_out)
        return
    show_disturbance(disturbance)
    _print(
        found, f"{len(inputs)} {'photos of ' + str(images) if images else 'inputs of seeded noise'}", isa, count, file
    )
    end(left_out)


def _tune_gpu(
    model: str | None, images: Path | None, limit: int, name: str, seconds: float, exif: bool, as_json: bool
) -> None:
    from nybble.backends.cuda import backend, variants
    from nybble.backends.cuda.tune import tune as search
    from nybble.backends.cuda.tuned import save_kernels
    from nybble.graph import read_graph
    from nybble.models import find

    by_name = {one.name: one for one in (backend, *variants.values())}
    if name not in by_name:
        raise CommandError(f"--device {name}: it has no kernels to tune; choose from {', '.join((CPU, *by_name))}")
    chosen = find(model)
    graph = read_graph(chosen.path)
    device, most = by_name[name].open_device()
    inputs, left_out = inputs_of(graph, images, min(limit, most), exif)
    report_left_out(left_out)
    with one_bar() as progress:
        found = search(graph, inputs, device, seconds, progress)
    file = save_kernels(graph, device, found.kernels)
    device.close()
    if as_json:
        print_json(
            {
                "model": chosen.name,
                "device": name,
                "isa": device.name,
                "inputs": str(images) if images else "noise",
                "images": found.images,
                "left_out": left_out.to_json(),
                "speedup": found.speedup,
                "steps": [asdict(one) for one in found.steps],
                "file": str(file),
            }
        )
        end(left_out)
        return
    changed = [one for one in found.steps if one.chosen != one.default]
    if changed:
        grid = table("step", "default", "us", "tuned", "us ", numbers=("us", "us "))
        for one in changed:
            before, after = one.seconds[one.default], one.seconds[one.chosen]
            grid.add_row(one.step, one.default, f"{1e6 * before:.1f}", one.chosen, f"{1e6 * after:.1f}")
        print_table(grid, lead=("step",))
    typer.echo(f"{device.name}, {found.images} images together: {len(changed)} of {len(found.steps)} layers changed")
    typer.echo(f"measured layers together: {found.speedup:.3f} x as fast as the defaults")
    typer.echo(f"stored in {file}")
    end(left_out)


def _print(found: Tuning, inputs: str, isa: str, threads: int, file: Path) -> None:
    from nybble.engine.profile import describe

    changed = {name: kernel for name, kernel in found.choices.kernels.items() if kernel != found.defaults[name]}
    if changed:
        grid = table("step", "default", "tuned")
        for name, kernel in changed.items():
            grid.add_row(name, describe(found.defaults[name]), describe(kernel))
        print_table(grid, lead=("step",))
    typer.echo(f"{isa}, threads {threads}, on {inputs}")
    if found.pair_shares is not None:
        before, after = found.pair_shares
        typer.echo(
            f"channel pairs that are not zero: {before:.1%} by default, {after:.1%} with orders matched on photos"
        )
    for name, speedup in found.speedups.items():
        what = {"orders": "with channel orders", "stored": "as stored before"}.get(name, "with kernels and orders")
        typer.echo(f"{what}: {speedup:.3f} x as fast as the defaults (median of {found.runs} interleaved runs)")
    against = found.against_stored
    if against is not None:
        typer.echo(
            f"the fastest found now is {against.median:.3f} x as fast as what was stored before "
            f"(quartiles {against.low:.3f} to {against.high:.3f})"
        )
    if found.chosen == "stored":
        typer.echo(
            f"kept: what was stored before; nothing new is faster by more than the spread of the runs, in {file}"
        )
        return
    kept = {"defaults": "the defaults, which were fastest", "orders": "the orders", "kernels": "orders and kernels"}
    instead = ", replacing what was stored before," if against is not None else ","
    typer.echo(f"stored: {kept[found.chosen]}{instead} in {file}")
