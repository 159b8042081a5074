"""``nybble bench``: the same work on this engine and on its peers, interleaved."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.model import CPU, Device, Json, Threads
from nybble.cli.output import is_quiet, plural, print_json, print_table, show_disturbance, table
from nybble.cli.photos import Exif, end, preprocessing_of, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.bench import Photos
    from nybble.graph import Graph

#: What is said where the peers' network is made of one with tables.
TABLES = "run activation functions as tables, which is slow for them; for a fair race give --float-model"
#: With fewer photos the output warns: the number of zeros, and with it the speed, differs from photo to photo.
_ENOUGH = 100


def bench(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="The 4-bit network, or an ensemble; required unless only --ceilings is given."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="Photos for all contestants: a folder or a list; top-1 needs labels.",
            show_default="noise",
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="PEER",
            help="onnxruntime, openvino, torch, litert, ncnn, or all that are installed; may be repeated.",
            show_default=False,
        ),
    ] = None,
    bits: Annotated[list[int] | None, typer.Option("--bits", help="4 or 8; may be repeated.", show_default="4")] = None,
    threads: Threads = None,
    batch: Annotated[
        list[int] | None,
        typer.Option("--batch", "-b", min=1, help="Batch size; may be repeated.", show_default="1 and 8"),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Time to measure each contestant and batch size for, on average.")
    ] = 10.0,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="PHOTOS",
            help="Photos that calibrate the peers' INT8 models.",
            show_default="some of --images",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first photos of --images.")] = None,
    exif: Exif = False,
    device: Device = CPU,
    isa: Annotated[str | None, typer.Option("--isa", help="Instruction set of nybble, as NYBBLE_ISA.")] = None,
    peer_isa: Annotated[
        str | None,
        typer.Option(
            "--peer-isa",
            help="Restrict peers to avx2, avxvnni, avx512 or avx512vnni; others are left out of the ratios.",
        ),
    ] = None,
    dense: Annotated[bool, typer.Option(help="Also run without zeros in the activations.")] = True,
    fp32: Annotated[bool, typer.Option(help="Also run the peers' float networks.")] = True,
    float_model: Annotated[
        Path | None,
        typer.Option(
            "--float-model",
            metavar="FILE",
            help="ONNX file of the float network that the peers run.",
            show_default="made of MODEL",
        ),
    ] = None,
    ceilings: Annotated[
        bool, typer.Option("--ceilings", help="Measure the machine's ceilings, and each layer against them.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the whole result as JSON here.", show_default=False),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots",
            metavar="STEM",
            help="Write plots as STEM-throughput.png and so on.",
            show_default="beside --output",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure speed beside other engines: one process each, interleaved, on the same photos.

    Ratios are medians of paired rounds. Each contestant's top-1 is shown beside its speed; a contestant more than 3
    points below the float network is shown as WRONG. docs/benchmark.md describes how everything is measured.
    """
    if model is None and not ceilings:
        raise WrongUsageError("give a MODEL to measure, or --ceilings to measure the machine alone")
    from nybble.files import JSON, check_free

    if output is not None:
        check_free(output, JSON)
    if plots is not None and not plots.absolute().parent.is_dir():
        raise CommandError(f"{plots}: there is no folder {plots.parent}")
    from nybble.bench import Settings, machine
    from nybble.bench import bench as run
    from nybble.bench.bench import ceiling_records
    from nybble.bench.ensemble import bench_ensemble, open_ensemble
    from nybble.bench.peers import ALL, PEERS
    from nybble.disturbance import Watch
    from nybble.images import LeftOut
    from nybble.images.batches import usable_cpus
    from nybble.models import is_ensemble, locate
    from nybble.schemas import BENCH

    if ceilings and device != CPU:
        raise WrongUsageError(f"--ceilings are those of the CPU, and --device is {device}")
    if float_model is not None and not float_model.is_file():
        raise CommandError(f"{float_model}: there is no such file")
    for peer in against or ():
        if peer not in (*PEERS, ALL):
            raise WrongUsageError(f"--against {peer}: choose from {', '.join((*PEERS, ALL))}")
    for number in bits or ():
        if number not in (4, 8):
            raise WrongUsageError(f"--bits {number}: choose 4 or 8")
    count = threads or usable_cpus()
    settings = Settings(
        against=tuple(dict.fromkeys(against or ())),
        bits=tuple(dict.fromkeys(bits or (4,))),
        threads=count,
        batches=tuple(dict.fromkeys(batch or (1, 8))),
        seconds=seconds,
        dense=dense,
        isa=_checked_isa(isa) if device == CPU else isa,
        device=device,
        peer_isa=_checked_peer_isa(peer_isa),
        ceilings=ceilings,
        fp32=fp32,
    )
    if model is None:
        with one_bar() as progress:
            watch = Watch()
            result = {"schema": BENCH, "machine": machine.describe(), **ceiling_records(count, progress)}
            result["machine"]["disturbance"] = watch.taken()
    elif is_ensemble(path := locate(model, ensembles=True)):
        if against or bits or ceilings or float_model or calibration or peer_isa or not (dense and fp32):
            raise WrongUsageError(
                f"{model}: is an ensemble, which is compared with its members only; omit --against, --bits, "
                "--ceilings, --float-model, --calibration, --peer-isa, --no-dense and --no-fp32"
            )
        with open_ensemble(path) as ensemble, one_bar() as progress:
            photos = known = _photos(ensemble.graph, images, limit, exif)
            result = bench_ensemble(path, ensemble, photos, settings, progress)
    else:
        graph, source, photos, known = _work(model, images, calibration, limit, settings.against, exif)
        with one_bar() as progress:
            result = run(graph, source, photos, known, settings, _cache(), progress, float_model)
    if output is not None:
        # Before anything is printed: a closed pipe must not cost the measurement.
        _write(output, result)
    if as_json:
        print_json(result)
    else:
        _show_all(result, is_alone=model is None, ceilings=ceilings)
        if output is not None:
            typer.echo(f"\nresult    {output}")
    _plot(result, plots, output, is_told=not as_json)
    if model is not None:
        end(LeftOut((*photos.left_out, *known.left_out)))


def _show_all(result: dict[str, Any], *, is_alone: bool, ceilings: bool) -> None:
    """Everything that was measured; of the machine alone where no model was named."""
    show_disturbance(result["machine"]["disturbance"])
    if is_alone:
        _show_machine(result["machine"])
    else:
        _show(result)
    if ceilings:
        _show_ceilings(result)


def _checked_isa(isa: str | None) -> str | None:
    from nybble.engine import available_isas

    wanted = isa or os.environ.get("NYBBLE_ISA") or None
    if wanted is not None and wanted not in available_isas():
        raise WrongUsageError(f"--isa {wanted}: this machine has {', '.join(available_isas())}")
    return wanted


def _checked_peer_isa(isa: str | None) -> str | None:
    from nybble.bench.isas import of_peers

    if isa is not None and isa not in of_peers():
        raise WrongUsageError(f"--peer-isa {isa}: choose from {', '.join(of_peers())}")
    return isa


def _cache() -> Path:
    from nybble.cache import cache_folder

    return cache_folder() / "bench"


def _work(
    model: str, images: Path | None, calibration: Path | None, limit: int | None, against: Sequence[str], exif: bool
) -> tuple[Graph, str, Photos, Photos]:
    """The network, the photos, and those that calibrate."""
    from nybble.bench.peers import check_installed
    from nybble.graph import read_graph
    from nybble.models import locate

    # Before photos are decoded for nothing.
    check_installed(against)
    path = locate(model)
    graph = read_graph(path)
    preprocessing_of(graph)
    photos = known = _photos(graph, images, limit, exif)
    if calibration and against:
        known = _photos(graph, calibration, None, exif)
    return graph, path.name, photos, known


def _photos(graph: Graph, images: Path | None, limit: int | None, exif: bool) -> Photos:
    """The photos that all contestants run."""
    from nybble.bench import noise, read_photos
    from nybble.bench.photos import SYNTHETIC
    from nybble.images import label_classes

    preprocessing = preprocessing_of(graph)
    if images is None:
        return noise(min(limit or SYNTHETIC, SYNTHETIC), preprocessing)
    classes = label_classes(graph)
    photos = read_photos(images, preprocessing, limit, classes, exif=exif)
    report_left_out(photos.left_out)
    # Labels of a network of another task are not the classes of whole photos.
    return photos if classes is not None else replace(photos, labels=None)


def _show(result: dict[str, Any]) -> None:
    about = result["machine"]
    typer.echo(f"network   {result['network']}")
    peers = result["calibration"]
    typer.echo(f"photos    {result['photos']}" + (f"; INT8 peers calibrated on some of {peers}" if peers else ""))
    if result["looks_up_tables"]:
        typer.echo(f"peers     {TABLES}")
    few = _few_photos(result)
    if few is not None:
        typer.echo(f"WARNING   {few}")
    _show_machine(about)
    taken = about["disturbance"]
    if taken is not None:
        others, guests = taken["other_processes"], taken["other_guests"]
        typer.echo(f"          other processes used {others:.1%} of it, other guests of the host {guests:.1%}")
    for peer, choice in result["int8_choices"].items():
        typer.echo(f"{peer:9} INT8 is {choice['chosen']['name']}, its fastest candidate here with right answers")
    for peer, reason in result["peers_left_out"].items():
        typer.echo(f"{peer:9} takes no part: {reason}")
    for peer, isa in result["settings"]["isa_of_peers"].items():
        if result["settings"]["peer_isa"] is not None:
            typer.echo(f"{peer:9} instruction set: {isa}")
    _show_runs(result)
    _show_ratios(result)
    _show_rooflines(result)
    _show_scaling(result)


def _few_photos(result: dict[str, Any]) -> str | None:
    """What to say where the photos are too few."""
    count = result["photo_count"]
    if count >= _ENOUGH or "SYNTHETIC" in result["photos"]:
        return None
    is_labelled = any(run["top1"] is not None for run in result["runs"])
    top1 = f", and each answer is {100 / count:.1f} points of top-1" if is_labelled else ""
    return f"only {plural(count, 'photo')}: speed depends on them{top1}; {_ENOUGH} are enough"


def _show_machine(about: dict[str, Any]) -> None:
    from nybble.bench.machine import BYTE_TILES

    typer.echo(
        f"machine   {about['cpu']} ({about['family_model']}), {plural(about['usable_cpus'], 'CPU')}, {about['system']}"
    )
    missing = f"; without {' '.join(about['missing_flags'])}" if about["missing_flags"] else ""
    typer.echo(f"          {' '.join(about['flags'])}{missing}")
    if about["byte_tiles"]:
        typer.echo(f"AMX       {BYTE_TILES}")


def _show_runs(result: dict[str, Any]) -> None:
    numbers = ("batch", "images/s", "quartiles", "all dense", "p50 ms", "p99 ms", "peak MB", "top-1")
    grid = table(numbers[0], "contestant", *numbers[1:], numbers=numbers)
    threads, rounds, photos = result["settings"]["threads"], result["rounds"], result["photos_per_turn"]
    quiet = "" if is_quiet(result["machine"]["disturbance"]) else ", on a DISTURBED machine"
    grid.title = (
        f"{plural(threads, 'thread')}, {plural(rounds, 'interleaved round')} of {plural(photos, 'photo')}{quiet}"
    )
    worst = {
        (run["engine"], run["bits"], run["batch"]): run["images_per_second"]
        for run in result["runs"]
        if run["activations"] == "dense"
    }
    for run in sorted(result["runs"], key=lambda run: run["batch"]):
        if run["activations"] == "dense":
            continue
        dense = worst.get((run["engine"], run["bits"], run["batch"]))
        low, high = run["images_per_second_spread"]["quartiles"]
        rss = run["peak_rss_bytes"]
        top1 = "unknown" if run["top1"] is None else f"{run['top1']:.1%}"
        grid.add_row(
            str(run["batch"]),
            run["contestant"],
            "WRONG" if run["wrong"] else f"{run['images_per_second']:.1f}",
            f"{low:.1f} to {high:.1f}",
            f"{dense:.1f}" if dense is not None else "same" if run["engine"] != "nybble" else "",
            f"{run['latency']['p50'] * 1e3:.1f}",
            f"{run['latency']['p99'] * 1e3:.1f}",
            "" if rss is None else f"{rss / 1e6:.0f}",
            top1,
        )
    print_table(grid, lead=("batch", "contestant"))


def _show_ratios(result: dict[str, Any]) -> None:
    numbers = ("best batch", "between", "batch 1", "between ")
    grid = table("ratio", *numbers, "compared with", numbers=numbers)
    for name, ratio in result["ratios"].items():
        if ratio["best_batch"] is None and ratio["batch_1"] is None:
            continue
        cells: list[str] = []
        opponent = ""
        for kind in ("best_batch", "batch_1"):
            if ratio[kind] is None:
                cells += ["", ""]
                continue
            spread = ratio[f"{kind}_spread"]
            cells += [f"{ratio[kind]:.2f}x", "{:.2f} to {:.2f}".format(*spread["quartiles"])]
            opponent = opponent or f"{spread['to']['contestant']}, batch {spread['to']['batch']}"
        grid.add_row(name, *cells, opponent)
    print_table(grid, lead=("ratio", "compared with"))


def _show_rooflines(result: dict[str, Any]) -> None:
    for entry in result.get("roofline", ()):
        share = f"{entry['share']:.0%} of it" if entry["share"] is not None else "not known for this GPU"
        typer.echo(f"roofline  {entry['contestant']}, batch {entry['batch']}, on {entry['gpu']}: {share}")


def _show_scaling(result: dict[str, Any]) -> None:
    scaling = result["scaling"]
    if scaling is None:
        return
    numbers = ("batch", "nybble 4-bit", "loop", "share of it", "between")
    grid = table("scaling", *numbers, numbers=numbers)
    grid.title = f"1 to {scaling['threads']} threads, beside {scaling['loop']['name']} ({scaling['loop']['isa']})"
    for kind, name in (("best_batch", "best batch"), ("batch_1", "batch 1")):
        if scaling[kind] is not None:
            spread = scaling[f"{kind}_spread"]
            times = f"{spread['engine']:.2f}x", f"{spread['loop']:.2f}x"
            between = "{:.2f} to {:.2f}".format(*spread["quartiles"])
            grid.add_row(name, str(spread["batch"]), *times, f"{scaling[kind]:.2f}", between)
    print_table(grid)


def _show_ceilings(result: dict[str, Any]) -> None:
    numbers = ("threads", "best", "median")
    grid = table("ceiling", "isa", *numbers, "unit", numbers=numbers)
    for entry in result["ceilings"]:
        best, median = f"{entry['best']:.1f}", f"{entry['median']:.1f}"
        grid.add_row(entry["name"], entry["isa"], str(entry["threads"]), best, median, entry["unit"])
    print_table(grid)
    if not result["ceilings"]:
        typer.echo("no ceilings are known for this processor")


def _plot(result: dict[str, Any], stem: Path | None, output: Path | None, *, is_told: bool) -> None:
    """Pictures where they were asked for, or beside the result if Matplotlib is there."""
    from importlib.util import find_spec

    if stem is None:
        if output is None or find_spec("matplotlib") is None:
            return
        stem = output.with_suffix("")
    from nybble.report.plots import write_plots

    for path in write_plots(result, stem):
        if is_told:
            typer.echo(f"plot      {path}")


def _write(path: Path, result: dict[str, Any]) -> None:
    from nybble.files import JSON, write_text

    write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n", JSON)
