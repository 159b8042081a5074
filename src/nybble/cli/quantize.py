"""``nybble quantize``: from a trained network and photos to an integer model, every stage measured."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.exit_codes import ExitCode
from nybble.cli.model import Json, Threads
from nybble.cli.output import console, print_json, show_disturbance, table
from nybble.cli.photos import end, report_left_out
from nybble.cli.progress import nested_bars

if TYPE_CHECKING:
    from nybble.quantize.pipeline import Outcome, PipelineConfig, Stage
    from nybble.statistics import Share


class BitsOption(StrEnum):
    """Bits of weights and activations."""

    W4A4 = "w4a4"
    W4A8 = "w4a8"
    W8A8 = "w8a8"
    MIXED = "mixed"


class MethodOption(StrEnum):
    """How rounding is learned, if at all."""

    STE = "ste"
    LSQ = "lsq"
    RECONSTRUCT = "reconstruct"


def quantize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="torchvision:NAME[@WEIGHTS], PACKAGE.MODULE:FACTORY[@WEIGHTS], an .onnx file, or the folder or name "
            "of a model.",
            show_default=False,
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="Training photos: one folder per class, a folder with labels.csv, a list, a .zip, or .tar shards; "
            "--epochs 0 needs no labels.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write; it must not exist.", show_default=False)
    ],
    val: Annotated[
        Path | None,
        typer.Option(
            "--val",
            metavar="PHOTOS",
            help="Photos to measure and select on; accuracy needs labels.",
            show_default="a tenth of --images",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=0, help="Epochs of fine-tuning; 0: post-training.", show_default="15"),
    ] = None,
    bits: Annotated[
        BitsOption | None, typer.Option("--bits", help="Bits of weights and activations.", show_default="w4a4")
    ] = None,
    method: Annotated[
        MethodOption | None,
        typer.Option(
            "--method",
            help="Fine-tuning with ranges from histograms (ste) or learned (lsq); rounding learned block by block, "
            "without epochs unless --epochs asks for them (reconstruct).",
            show_default="ste",
        ),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            "--min-accuracy",
            metavar="PERCENT",
            min=0,
            max=100,
            help="With --bits mixed: the fastest choice of bits that has this top-1 before fine-tuning.",
            show_default=False,
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            metavar="TIMES",
            min=1,
            help="With --bits mixed: the best choice of bits that is so many times as fast as 8 bits.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings as YAML; options win.", show_default=False)
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            "--resize", min=1, help="Length of a photo's short side, in pixels.", show_default="as SOURCE says"
        ),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop", min=1, help="Side of the network's square input, in pixels.", show_default="as SOURCE says"
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="R,G,B", help="Mean of samples from 0 to 1.", show_default="as SOURCE says"),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            "--std", metavar="R,G,B", help="Standard deviation of samples from 0 to 1.", show_default="as SOURCE says"
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="DIR",
            help="Folder for the state of the run, kept afterwards; the same command resumes from it.",
            show_default="beside --out, removed at the end",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="DIR",
            help="Write histograms, curves and the error of each layer here.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Seed of the split, calibration, training, and the weights of a SOURCE without any.",
            show_default="0",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="NAME",
            help="Name or index of the output that is the logits, where SOURCE has several.",
            show_default=False,
        ),
    ] = None,
    exif: Annotated[
        bool | None,
        typer.Option(
            "--exif/--no-exif", help="Turn photos upright as their EXIF orientation says.", show_default="no-exif"
        ),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Quantize a trained network with photos, and report what each stage costs.

    Calibrates ranges, fine-tunes (unless --epochs is 0), writes the integer network, and reports top-1, size and speed
    of the float, the calibrated, the fine-tuned and the integer network on the selection photos. A run that was killed
    resumes when the same command is given again.
    """
    from pydantic import ValidationError

    from nybble.quantize import pipeline
    from nybble.quantize.train import TrainingInterrupted

    pipeline.check_free(out)
    options = {
        "bits": bits,
        "method": method,
        "epochs": epochs,
        "seed": seed,
        "exif": exif,
        "min_accuracy": min_accuracy,
        "speed": speed,
        "preprocessing": {
            "resize": resize,
            "crop": None if crop is None else (crop, crop),
            "mean": _numbers("--mean", mean),
            "std": _numbers("--std", std),
        },
    }
    try:
        settings = _settings(config, options)
    except ValidationError as error:
        raise CommandError("; ".join(entry["msg"] for entry in error.errors())) from None
    folder = work if work is not None else out.absolute().with_name(f".{out.absolute().name}.work")
    # Locked until the result is written: the same command given twice must not remove what the other works with.
    with pipeline.locked(folder):
        try:
            with nested_bars() as progress:
                finished = pipeline.quantize(
                    source,
                    images,
                    settings,
                    val=val,
                    work=folder,
                    report=report,
                    threads=threads,
                    progress=progress,
                    output=output,
                )
        except TrainingInterrupted as error:
            typer.echo(f"interrupted: {error}", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if finished is None:
            return
        pipeline.save(finished.graph, finished.outcome, out)
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)
    left_out = finished.outcome.left_out
    report_left_out(left_out)
    if as_json:
        print_json(finished.outcome.to_dict())
    else:
        _print(finished.outcome, report)
    end(left_out)


def _settings(path: Path | None, options: dict[str, Any]) -> PipelineConfig:
    """The configuration file's settings, options in their place."""
    from nybble.quantize import Bits
    from nybble.quantize.pipeline import PipelineConfig

    settings = PipelineConfig.load(path) if path is not None else PipelineConfig()
    bits, method, epochs = options["bits"], options["method"], options["epochs"]
    budget = {name: options[name] for name in ("min_accuracy", "speed") if options[name] is not None}
    if budget:
        if bits not in (None, BitsOption.MIXED):
            raise WrongUsageError(f"--min-accuracy and --speed choose between bits: give --bits mixed, not {bits}")
        if len(budget) > 1:
            raise WrongUsageError("give one of --min-accuracy and --speed, not both")
        bits = BitsOption.MIXED
    if bits is not None:
        if (settings.layers or settings.activations) and bits != settings.bits:
            raise WrongUsageError(
                f"--bits {bits} has no effect on layers that {path} lists; remove `layers` and `activations` from it"
            )
        settings.bits = Bits(bits)
    for name, value in budget.items():
        settings.min_accuracy = settings.speed = None
        setattr(settings, name, value)
    if method is MethodOption.RECONSTRUCT:
        settings.reconstruct = True
        if epochs is None:
            epochs = 0
    elif method is not None:
        settings.method = method.value
        settings.reconstruct = False
    if epochs is not None:
        settings.training.epochs = epochs
    if options["exif"] is not None:
        settings.exif = options["exif"]
    if options["seed"] is not None:
        settings.seed = settings.calibration.seed = options["seed"]
        settings.training.seed = settings.reconstruction.seed = options["seed"]
    for name, value in options["preprocessing"].items():
        if value is not None:
            setattr(settings.preprocessing, name, value)
    return settings


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise WrongUsageError(f"{option} {text}: is not a list of numbers such as 0.485,0.456,0.406") from None


def _print(outcome: Outcome, report: Path | None) -> None:
    show_disturbance(outcome.disturbance)
    labelled = outcome.stages[0].evaluation.top1 is not None
    numbers = ("top-1", "points", "lost", "won", "size", "images/s") if labelled else ("as float", "size", "images/s")
    grid = table("network", numbers[0], "95 % interval", *numbers[1:], numbers=numbers)
    for stage in outcome.stages:
        grid.add_row(*(_row(stage) if labelled else _unlabelled_row(stage)))
    console().print(grid)
    if labelled:
        typer.echo(
            "points, lost, won: the change of top-1, and photos that only the float network, or only this one, has "
            "right"
        )
        last = outcome.stages[-1]
        typer.echo(f"{last.name} against float: {last.against_float}")
    else:
        typer.echo("accuracy is not measured: the photos have no labels")
        typer.echo("as float: the share of photos that get the float network's class")
    count = len(outcome.stages[0].evaluation.predictions)
    typer.echo(
        f"{'top-1' if labelled else 'as float'} on {count} photo{'s' * (count != 1)} "
        f"({outcome.selection_origin}); "
        f"{outcome.train} to calibrate{' and train' if outcome.training else ''} with"
    )
    typer.echo(
        f"speed with {outcome.threads} thread{'s' * (outcome.threads != 1)}, batch {outcome.batch}, interleaved: "
        f"float in torch, integers in nybble ({outcome.isa})"
    )
    typer.echo(
        f"the integer network is the {outcome.kept} one; both put {outcome.same_as_fake:.1%} of the photos into the "
        "same class"
    )
    chosen = outcome.details.get("bits")
    if chosen is not None:
        accuracy = "" if chosen["accuracy"] is None else f", {chosen['accuracy']:.2f} % before fine-tuning"
        typer.echo(
            f"{len(chosen['four_bits'])} of {chosen['groups']} groups of layers have 4 bits, the others 8: "
            f"{chosen['times_as_fast_as_8_bits']:.2f} times as fast as all in 8 bits{accuracy}"
        )
    for what, found in (*outcome.photos.items(), ("selection", outcome.stages[0].evaluation.report.to_dict())):
        for line in _unusual(what, found):
            typer.echo(line)
    if report is not None:
        typer.echo(f"report in {report}")
    typer.echo(f"in {outcome.out}")


def _unlabelled_row(stage: Stage) -> tuple[str, ...]:
    return (stage.name, *_share(stage.same_as_float), *_cost(stage))


def _row(stage: Stage) -> tuple[str, ...]:
    against = stage.against_float
    return (
        stage.name,
        *_share(stage.evaluation.top1),
        "" if against is None else f"{100 * against.difference:+.2f}",
        "" if against is None else str(against.first_only),
        "" if against is None else str(against.second_only),
        *_cost(stage),
    )


def _share(share: Share | None) -> tuple[str, str]:
    if share is None:
        return "", ""
    low, high = share.interval
    return f"{share.value:.2%}", f"{100 * low:.1f}-{100 * high:.1f} %"


def _cost(stage: Stage) -> tuple[str, str]:
    return (
        "" if stage.bytes is None else f"{stage.bytes / 1e6:.2f} MB",
        "" if stage.images_per_second is None else f"{stage.images_per_second:.1f}",
    )


def _unusual(what: str, found: dict[str, Any]) -> list[str]:
    """Lines about photos that could not be used, or were not as expected."""
    if not found:
        return []
    failed = [f"{entry['name']} ({entry['reason']})" for entry in found["failed"]]
    kinds = {
        "could not be used": failed,
        "in grayscale": found["gray"],
        "in CMYK": found["cmyk"],
        "smaller than the crop": found["tiny"],
    }
    return [
        f"{what}: 1 photo {words}, {names[0]}"
        if len(names) == 1
        else f"{what}: {len(names)} photos {words}, such as {names[0]}"
        for words, names in kinds.items()
        if names
    ]
