"""``nybble mlperf``: MLPerf Inference's image classification, measured by LoadGen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.coercion import Command
from nybble.cli.errors import WrongUsageError
from nybble.cli.exit_codes import ExitCode
from nybble.cli.group import Group
from nybble.cli.mlperf_output import comparison_json, outcome_json, show_comparison, show_outcome
from nybble.cli.model import CPU, Device, Json, Model, Threads
from nybble.cli.output import print_json
from nybble.cli.photos import Exif, Limit, end, report_left_out
from nybble.cli.progress import one_bar

mlperf = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Run MLPerf Inference's image classification with LoadGen.",
)

#: At least one of so many answers should be right.
_SUSPICIOUS = 10


class Scenario(StrEnum):
    """LoadGen's scenarios."""

    OFFLINE = "Offline"
    SINGLE_STREAM = "SingleStream"
    MULTI_STREAM = "MultiStream"
    SERVER = "Server"


class Mode(StrEnum):
    """What a run is for."""

    PERFORMANCE = "performance"
    ACCURACY = "accuracy"
    SUBMISSION = "submission"


class DtypeOption(StrEnum):
    """Types of the answers in a log."""

    AUTO = "auto"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    FLOAT16 = "float16"
    INT8 = "int8"
    INT16 = "int16"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"


Log = Annotated[
    Path, typer.Argument(metavar="LOG", help="mlperf_log_accuracy.json, or its folder.", show_default=False)
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="labels.csv, or a list of lines `file label` such as val_map.txt.",
        show_default=False,
    ),
]


Dtype = Annotated[
    DtypeOption,
    typer.Option("--dtype", help="Type of the answers in LOG; auto: the type in which all of them are classes."),
]


@mlperf.command(
    cls=Command, epilog="Example: nybble mlperf run --images photos --scenario Offline --mode submission --out mlperf"
)
def run(
    images: Annotated[
        Path,
        typer.Option(
            "--images",
            metavar="PHOTOS",
            help="Photos: a folder with labels.csv or val_map.txt, one folder per class, or a list; "
            "accuracy needs labels.",
            show_default=False,
        ),
    ],
    model: Model = None,
    scenario: Annotated[Scenario, typer.Option("--scenario", "-s", help="What LoadGen asks for.")] = Scenario.OFFLINE,
    mode: Annotated[Mode, typer.Option("--mode", "-m", help="submission: accuracy, then performance.")] = (
        Mode.PERFORMANCE
    ),
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")] = Path("mlperf"),
    conf: Annotated[
        Path | None,
        typer.Option("--conf", metavar="FILE", help="mlperf.conf, over LoadGen's own.", show_default=False),
    ] = None,
    user_conf: Annotated[
        Path | None,
        typer.Option("--user-conf", metavar="FILE", help="user.conf, over both.", show_default="targets measured"),
    ] = None,
    threads: Threads = None,
    device: Device = CPU,
    batch: Annotated[
        int | None,
        typer.Option("--batch", "-b", min=1, max=1024, help="Most photos in one batch.", show_default="8"),
    ] = None,
    find_peak: Annotated[
        bool, typer.Option("--find-peak", help="Server: search the highest rate that keeps the latency bound.")
    ] = False,
    labels: Labels = None,
    limit: Limit = None,
    exif: Exif = False,
    compare_with: Annotated[
        Path | None,
        typer.Option(
            "--compare", metavar="LOG|NPZ", help="Compare the answers with those of another system.", show_default=False
        ),
    ] = None,
    submitter: Annotated[str, typer.Option("--submitter", help="Names the folder of a submission.")] = "nybble",
    system: Annotated[str, typer.Option("--system", help="Names the machine.", show_default="from its processor")] = "",
    as_json: Json = False,
) -> None:
    """Measure speed or accuracy under MLPerf's rules.

    LoadGen's built-in configuration applies, then --conf, then --user-conf; a missing target is measured. A run that
    is stopped leaves nothing in --out. docs/mlperf.md says more.
    """
    from nybble.mlperf.accuracy import compare as compared
    from nybble.mlperf.accuracy import read_answers
    from nybble.mlperf.labels import Labelled
    from nybble.mlperf.layout import checked_name
    from nybble.mlperf.request import Request
    from nybble.mlperf.run import run as execute
    from nybble.models import find

    if compare_with is not None and mode is Mode.PERFORMANCE:
        raise WrongUsageError("--compare needs answers: --mode accuracy or submission logs them")
    chosen = find(model, ensembles=True)
    request = Request(
        model=chosen.path,
        name=chosen.name,
        images=images,
        labels=labels,
        limit=limit,
        exif=exif,
        scenario=scenario.value,
        mode=mode.value,
        conf=conf,
        user_conf=user_conf,
        threads=threads,
        device=device,
        batch=batch,
        find_peak=find_peak,
        submitter=checked_name(submitter, "--submitter"),
        system=checked_name(system, "--system") if system else "",
    )
    other = None if compare_with is None else read_answers(compare_with)
    with one_bar() as progress:
        progress("starting", 0, None)
        outcome = execute(request, out, progress)
    report_left_out(outcome.left_out)
    comparison = None
    if other is not None and compare_with is not None:
        photos = [Labelled(photo.file, photo.label) for photo in outcome.photos if photo.label is not None]
        numbered = compare_with.suffix == ".npz" and all(photo.row is not None for photo in photos)
        comparison = compared(read_answers(outcome.folders[0]), other, photos if numbered else None)
    if as_json:
        print_json(outcome_json(outcome, comparison))
    else:
        show_outcome(chosen.name, request.scenario, outcome)
        if comparison is not None:
            show_comparison(comparison)
    if outcome.performance is not None and not outcome.performance.valid:
        raise typer.Exit(ExitCode.DIFFERENCE)
    end(outcome.left_out)


@mlperf.command(
    cls=Command,
    short_help="Top-1 accuracy of logged answers.",
    epilog="Example: nybble mlperf accuracy mlperf_log_accuracy.json --labels val_map.txt",
)
def accuracy(
    log: Log,
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="The photos that were run: labels.csv, val_map.txt, or their folder.",
            show_default=False,
        ),
    ],
    dtype: Dtype = DtypeOption.AUTO,
    as_json: Json = False,
) -> None:
    """Report top-1 accuracy of the answers that LoadGen logged, counted as by MLPerf's own script."""
    from nybble.mlperf.accuracy import accuracy as counted
    from nybble.mlperf.accuracy import read_answers
    from nybble.mlperf.labels import left_out_of, read_labels

    share = counted(read_answers(log, _dtype(dtype)), read_labels(labels, log), str(log))
    left_out = len(left_out_of(log))
    if not share.right and share.total >= _SUSPICIOUS:
        typer.echo(
            f"warning: none of {share.total} answers is right; check that {labels} is the list that was run, "
            "in the same order, and that --dtype is the type of the answers",
            err=True,
        )
    if as_json:
        result = {"accuracy": share.value, "right": share.right, "photos": share.total, "interval": share.interval}
        print_json({**result, "left_out": left_out})
        return
    typer.echo(f"accuracy={100 * share.value:.3f}%, good={share.right}, total={share.total}")
    if left_out:
        typer.echo(f"photos of the list that the run left out: {left_out}")


@mlperf.command(
    cls=Command,
    short_help="Photos with different answers in two logs.",
    epilog="Example: nybble mlperf compare mlperf_log_accuracy.json t4-predictions.npz",
)
def compare(
    log: Log,
    other: Annotated[
        Path,
        typer.Argument(
            metavar="LOG|NPZ",
            help="Another log, or an array `prediction` in the order of the photos.",
            show_default=False,
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="The list that LOG ran, if a part of ImageNet's: ILSVRC2012_val_N is photo N of the other log.",
            show_default=False,
        ),
    ] = None,
    dtype: Dtype = DtypeOption.AUTO,
    as_json: Json = False,
) -> None:
    """List the photos for which two logs have different answers; exit code 1 if there are any."""
    from nybble.mlperf.accuracy import compare as compared
    from nybble.mlperf.accuracy import read_answers
    from nybble.mlperf.labels import read_labels

    photos = None if labels is None else read_labels(labels, log)
    comparison = compared(read_answers(log, _dtype(dtype)), read_answers(other), photos)
    if as_json:
        print_json(comparison_json(comparison))
    else:
        show_comparison(comparison)
    if comparison.differences:
        raise typer.Exit(ExitCode.DIFFERENCE)


def _dtype(option: DtypeOption) -> str | None:
    return None if option is DtypeOption.AUTO else option.value


@mlperf.command(
    cls=Command, short_help="Whether a folder is complete and valid.", epilog="Example: nybble mlperf check mlperf"
)
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What run wrote into --out.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check that a folder has what a submission needs, and that its runs are valid; exit code 1 if not."""
    from nybble.mlperf.check import check as checked

    report = checked(folder)
    if as_json:
        findings = {
            name: [{"place": str(one.place), "text": one.text} for one in found]
            for name, found in (("problems", report.problems), ("shortfalls", report.shortfalls))
        }
        print_json({"results": [list(one) for one in report.results], **findings})
    else:
        for scenario, text in report.results:
            typer.echo(f"{scenario:12}  {text}")
        for problem in report.problems:
            typer.echo(f"PROBLEM       {problem.place}: {problem.text}")
        for text in dict.fromkeys(one.text for one in report.shortfalls):
            typer.echo(f"not a submission: {text}")
        count = len(report.problems)
        typer.echo(f"{count} problem{'s' * (count != 1)}" if count else "complete and valid")
    if report.problems:
        raise typer.Exit(ExitCode.DIFFERENCE)


@mlperf.command(cls=Command, epilog="Example: nybble mlperf audit mlperf --test TEST01")
def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What run wrote into --out.", show_default=False)],
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="TEST01, TEST04 or TEST05; may be repeated.", show_default="all three"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run MLPerf's audit tests on existing runs.

    TEST01: answers of a performance run are those of the accuracy run; TEST04: one photo again and again is no faster;
    TEST05: other seeds give the same speed.
    """
    from nybble.mlperf.audit import TESTS
    from nybble.mlperf.audit import audit as audited

    unknown = [name for name in test or () if name not in TESTS]
    if unknown:
        raise WrongUsageError(f"there is no test {unknown[0]!r}, only {', '.join(TESTS)}")
    with one_bar() as progress:
        progress("starting", 0, None)
        verdicts = audited(folder, tuple(dict.fromkeys(test or TESTS)), progress)
    if as_json:
        print_json([verdict._asdict() for verdict in verdicts])
    else:
        for verdict in verdicts:
            typer.echo(f"{verdict.scenario:12}  {verdict.test}  {'PASS' if verdict.passed else 'FAIL'}  {verdict.text}")
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(ExitCode.DIFFERENCE)
