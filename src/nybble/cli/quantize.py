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
from nybble.cli.output import print_json, print_table, show_disturbance, table
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


class FitOption(StrEnum):
    """How a photo is brought to the size of the input."""

    CROP = "crop"
    STRETCH = "stretch"
    LETTERBOX = "letterbox"
    NONE = "none"


class ChannelsOption(StrEnum):
    """Order of the channels."""

    RGB = "RGB"
    BGR = "BGR"


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
    four_bit_share: Annotated[
        float | None,
        typer.Option(
            "--four-bit-share",
            metavar="SHARE",
            min=0.01,
            max=1,
            help="With --bits mixed: the choice of least noise in which this share of the multiplications has 4-bit "
            "weights, of those in layers that may.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings as YAML; options override it.", show_default=False),
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
    fit: Annotated[
        FitOption | None,
        typer.Option("--fit", help="How a photo is brought to the size of the input.", show_default="as SOURCE says"),
    ] = None,
    channel_order: Annotated[
        ChannelsOption | None,
        typer.Option("--channel-order", help="Order of the input's channels.", show_default="as SOURCE says"),
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option(
            "--task",
            metavar="FILE",
            help="What the outputs mean: a file `task`, or a model directory that has one.",
            show_default="as SOURCE says",
        ),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            "--class-names", metavar="FILE", help="Names of the classes, one for each line.", show_default=False
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            metavar="SIGMA",
            min=0,
            help="For a denoiser: add noise of this standard deviation (of 255) to photos.",
            show_default=False,
        ),
    ] = None,
    distil: Annotated[
        bool,
        typer.Option(
            "--distil", help="Fine-tune along the outputs and the values within the float network; needs no labels."
        ),
    ] = False,
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
            help="Name or index of the one output to take, if SOURCE has several.",
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

    Of a network that is not a classifier, the outputs are compared with the float network's. It needs no labels:
    --epochs 0, or --distil. `nybble evaluate` then measures what it is for.
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
        "noise": noise,
        "distil": distil,
        "task": None if task is None else _task(task),
        "class_names": None if class_names is None else _lines(class_names),
        "min_accuracy": min_accuracy,
        "speed": speed,
        "four_bit_share": four_bit_share,
        "preprocessing": {
            "resize": resize,
            "crop": None if crop is None else (crop, crop),
            "mean": _numbers("--mean", mean),
            "std": _numbers("--std", std),
            "fit": None if fit is None else fit.value,
            "channel_order": None if channel_order is None else channel_order.value,
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
    from nybble.quantize.pipeline import PipelineConfig, distilled

    settings = PipelineConfig.load(path) if path is not None else PipelineConfig()
    bits, method, epochs = options["bits"], options["method"], options["epochs"]
    budgets = ("min_accuracy", "speed", "four_bit_share")
    budget = {name: options[name] for name in budgets if options[name] is not None}
    if budget:
        if bits not in (None, BitsOption.MIXED):
            raise WrongUsageError(
                f"--min-accuracy, --speed and --four-bit-share choose between bits: give --bits mixed, not {bits}"
            )
        if len(budget) > 1:
            raise WrongUsageError("give one of --min-accuracy, --speed and --four-bit-share")
        bits = BitsOption.MIXED
    if bits is not None:
        if (settings.layers or settings.activations) and bits != settings.bits:
            raise WrongUsageError(
                f"--bits {bits} has no effect on layers that {path} lists; remove `layers` and `activations` from it"
            )
        settings.bits = Bits(bits)
    for name, value in budget.items():
        settings.min_accuracy = settings.speed = settings.four_bit_share = None
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
    if options["distil"]:
        distilled(settings.training)
    for name in ("exif", "noise", "task", "class_names"):
        if options[name] is not None:
            setattr(settings, name, options[name])
    if options["seed"] is not None:
        settings.seed = settings.calibration.seed = options["seed"]
        settings.training.seed = settings.reconstruction.seed = options["seed"]
    for name, value in options["preprocessing"].items():
        if value is not None:
            setattr(settings.preprocessing, name, value)
    return settings


def _task(path: Path) -> dict[str, Any]:
    from nybble.graph.task_file import read_task_file, task_fields

    return task_fields(read_task_file(path))


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise WrongUsageError(f"{option} {text}: is not a list of numbers such as 0.485,0.456,0.406") from None


def _print(outcome: Outcome, report: Path | None) -> None:
    show_disturbance(outcome.disturbance)
    if outcome.stages[0].outputs is not None:
        _print_outputs(outcome)
    else:
        _print_answers(outcome)
    _print_rest(outcome, report)


def _print_outputs(outcome: Outcome) -> None:
    """The stages of a network that is not a classifier."""
    numbers = ("noise", "worst output", "size", "images/s")
    grid = table("network", *numbers, numbers=(numbers[0], *numbers[2:]))
    for stage in outcome.stages:
        noise = stage.output_noise
        worst = max(noise, key=lambda name: noise[name])
        share = "" if stage is outcome.stages[0] else f"{stage.outputs.mean_noise:.3%}" if stage.outputs else ""
        named = f"{worst} {noise[worst]:.3%}" if noise[worst] else ""
        grid.add_row(stage.name, share, named, *_cost(stage))
    print_table(grid)
    typer.echo(
        "noise: squared error of the outputs as a share of the float network's energy, averaged over the outputs"
    )
    count = outcome.selection
    typer.echo(
        f"on {count} photo{'s' * (count != 1)} ({outcome.selection_origin}); "
        f"{outcome.train} to calibrate{' and train' if outcome.training else ''} with"
    )
    typer.echo(f"the integer network is the {outcome.kept} one; measure what it is for with nybble evaluate")
    if outcome.task is None:
        typer.echo("it has no file `task`, so it returns arrays by name: --task FILE says what they mean")


def _print_answers(outcome: Outcome) -> None:
    """The stages of a classifier."""
    labelled = outcome.stages[0].evaluation.top1 is not None
    numbers = ("top-1", "points", "lost", "won", "size", "images/s") if labelled else ("as float", "size", "images/s")
    grid = table("network", numbers[0], "95 % interval", *numbers[1:], numbers=numbers)
    for stage in outcome.stages:
        grid.add_row(*(_row(stage) if labelled else _unlabelled_row(stage)))
    print_table(grid)
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
        f"the integer network is the {outcome.kept} one; both put {outcome.same_as_fake:.1%} of the photos into the "
        "same class"
    )


def _print_rest(outcome: Outcome, report: Path | None) -> None:
    """Speed, bits, photos and files."""
    typer.echo(
        f"speed with {outcome.threads} thread{'s' * (outcome.threads != 1)}, batch {outcome.batch}, interleaved: "
        f"float in torch, integers in nybble ({outcome.isa})"
    )
    chosen = outcome.details.get("bits")
    if chosen is not None:
        accuracy = "" if chosen["accuracy"] is None else f", {chosen['accuracy']:.2f} % before fine-tuning"
        shares, speed = chosen.get("share_of_multiplications"), chosen["times_as_fast_as_8_bits"]
        gain = (
            f"{speed:.2f} times as fast as all in 8 bits"
            if shares is None
            else f"{shares['of_choosable']:.1%} of the multiplications that may, {shares['of_all']:.1%} of all"
        )
        typer.echo(
            f"{len(chosen['four_bits'])} of {chosen['groups']} groups of layers have 4 bits, the others 8: "
            f"{gain}{accuracy}"
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
