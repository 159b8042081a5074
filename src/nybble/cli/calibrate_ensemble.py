"""``nybble calibrate-ensemble``: finds the temperatures and the threshold of an ensemble."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.model import Json, Threads
from nybble.cli.output import print_json, print_table, show_disturbance, table
from nybble.cli.photos import Exif, Images, Limit, end, open_labelled, report_left_out
from nybble.cli.progress import one_bar

if TYPE_CHECKING:
    from nybble.engine.ensemble.calibrate import Calibrated, Wishes

#: Names of the result and of the chart in the folder of ``--report``.
_RESULT, _PICTURE = "ensemble.json", "ensemble"


def calibrate_ensemble(
    members: Annotated[
        list[str],
        typer.Argument(metavar="MEMBER MEMBER...", help="Model folders or names, the cheapest first."),
    ],
    images: Images,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The TOML file to write.", show_default=False)],
    kind: Annotated[
        Literal["cascade", "mean"],
        typer.Option("--kind", help="cascade runs further members only if needed, mean runs all."),
    ] = "cascade",
    defer: Annotated[
        list[float] | None,
        typer.Option(
            "--defer",
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of the photos that go to the second member; repeated, to the third and so on.",
            show_default="0.16, then half of the one before",
        ),
    ] = None,
    measure: Annotated[
        Literal["margin", "entropy"], typer.Option("--measure", help="How the uncertainty of an answer is measured.")
    ] = "margin",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds of the cross-validation.")] = 5,
    limit: Limit = None,
    threads: Threads = None,
    exif: Exif = False,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="DIR", help="Also write the results and a chart here.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Calibrate an ensemble on labelled photos that none of its members was trained on.

    Temperatures maximise the likelihood of the labels. The thresholds of a cascade send the requested shares of the
    photos to its further members. Accuracies are cross-validated. Commands that run photos accept the file in place
    of MODEL; docs/ensembles.md describes it.
    """
    from nybble.files import TOML, check_free

    if len(members) < 2:
        raise WrongUsageError("an ensemble needs at least two members; name them, the cheapest first")
    check_free(out, TOML)
    if report is not None and report.exists() and not report.is_dir():
        raise CommandError(f"{report}: exists already and is not a folder")
    from nybble.disturbance import Watch
    from nybble.engine import load
    from nybble.engine.ensemble.calibrate import Wishes, calibrate
    from nybble.models import find

    wishes = Wishes(kind, measure, tuple(defer or Wishes.shares), folds, exif)
    if kind == "cascade":
        wishes.shares_of(len(members))
    folders = [find(member).path for member in members]
    names = [_name(member, folder, out) for member, folder in zip(members, folders, strict=True)]
    watch = Watch()
    with ExitStack() as opened, one_bar() as progress:
        engines = [opened.enter_context(load(folder, threads=threads)) for folder in folders]
        photos = open_labelled(engines[0].graph, images, limit)
        found = calibrate(engines, names, photos, wishes, progress)
        result = _result(found, wishes, images, engines[0].threads, watch.taken())
    report_left_out(found.left_out)
    _write_description(out, found, wishes, images)
    written = [] if report is None else _write_report(report, result)
    if as_json:
        print_json({**result, "out": str(out)})
        end(found.left_out)
        return
    show_disturbance(result["disturbance"])
    _show(found)
    typer.echo(f"ensemble  {out}")
    for path in written:
        typer.echo(f"report    {path}")
    end(found.left_out)


def _name(member: str, folder: Path, out: Path) -> str:
    """The model of a member in the file: its name, or the path of its folder relative to the file."""
    from nybble.models import names

    if member in names() and not Path(member).expanduser().is_dir():
        return member
    return os.path.relpath(folder.absolute(), out.absolute().parent)


def _result(found: Calibrated, wishes: Wishes, images: Path, threads: int, disturbance: Any) -> dict[str, Any]:
    from nybble.disturbance import warning
    from nybble.schemas import ENSEMBLE

    return {
        "schema": ENSEMBLE,
        "photos": images.name,
        "folds": wishes.folds,
        "measure": wishes.measure,
        "exif": wishes.exif,
        "threads": threads,
        **found.record(),
        "left_out": found.left_out.to_json(),
        "disturbance": disturbance,
        "warning": warning(disturbance),
    }


def _write_description(out: Path, found: Calibrated, wishes: Wishes, images: Path) -> None:
    from nybble.engine.ensemble.settings import write_settings
    from nybble.statistics import Share

    share = Share(int(found.right.sum()), len(found.labels))
    comments = [
        f"Found by nybble calibrate-ensemble on {len(found.labels)} photos of {images.name}.",
        f"Cross-validated top-1: {share}.",
    ]
    if wishes.kind == "cascade":
        shares = ", ".join(f"{share:.1%}" for share in wishes.shares_of(len(found.settings.member)))
        comments.append(f"Shares of the photos that go to further members: {shares}.")
    write_settings(out, found.settings, comments)


def _write_report(folder: Path, result: dict[str, Any]) -> list[Path]:
    """Write the results, and the chart if Matplotlib is installed."""
    from importlib.util import find_spec

    from nybble.files import JSON, FileError, write_text

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror or error}") from error
    path = folder / _RESULT
    write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n", JSON)
    if find_spec("matplotlib") is None:
        typer.echo("warning: no chart was drawn: Matplotlib is not installed; pip install 'nybble[report]'", err=True)
        return [path]
    from nybble.report.drawing import write_chart
    from nybble.report.records import EnsembleCalibration
    from nybble.report.sections.ensembles import chart
    from nybble.report.source import Named

    named = Named("", path.name, "", EnsembleCalibration.model_validate(result))
    return [path, *write_chart(chart(named), folder / _PICTURE)]


def _show(found: Calibrated) -> None:
    from nybble.statistics import Share

    total = len(found.labels)
    grid = table("what", "top-1", "95 % interval", "ms per photo", numbers=("top-1", "ms per photo"))

    def row(what: str, right: int, seconds: float) -> None:
        share = Share(right, total)
        low, high = share.interval
        grid.add_row(what, f"{share.value:.1%}", f"{low:.1%} to {high:.1%}", f"{1e3 * seconds:.2f}")

    for member, right, seconds in zip(found.settings.member, found.outcome.members, found.seconds, strict=True):
        row(f"{member.model}, temperature {member.temperature:.3f}", int(right.sum()), seconds)
    row("mean of all", int(found.outcome.mean.sum()), sum(found.seconds))
    if found.outcome.points:
        chosen = found.outcome.points[-1]
        shares = ", ".join(f"{share:.1%}" for share in chosen.shares(len(found.seconds))[1:])
        row(f"cascade, {shares} deferred", int(chosen.right.sum()), found.cost(chosen))
    grid.title = f"{total} photos, cross-validated"
    print_table(grid)
    against = found.against_best
    name = found.settings.member[found.best].model
    typer.echo(f"compared with {name}, its best member: {against}")
