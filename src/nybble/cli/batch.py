"""``nybble batch``: the answers of a network for all photos of a folder, a list, or shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.errors import WrongUsageError
from nybble.cli.exit_codes import ExitCode
from nybble.cli.model import Json, Threads
from nybble.cli.output import plural, print_json
from nybble.cli.photos import Batch, Exif
from nybble.cli.progress import one_bar


def batch(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model folder or file, an ensemble's TOML file, or the name of a model."
        ),
    ],
    photos: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="A folder or list of photos, .tar files (WebDataset), or .parquet files."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder for the results.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the job in DIR.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Resume, and repeat the shards with errors.")
    ] = False,
    max_failure_rate: Annotated[
        float | None,
        typer.Option("--max-failure-rate", min=0, max=1, help="Stop if more than this share cannot be used."),
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="parquet, jsonl or csv.")] = "parquet",
    shard: Annotated[int, typer.Option("--shard", min=1, help="Photos per file of results.")] = 10_000,
    top: Annotated[int, typer.Option("--top", min=1, help="Classes to write for each photo.")] = 5,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Add the input of the last layer, for search and clustering.")
    ] = False,
    column: Annotated[
        str | None, typer.Option("--column", help="The column of Parquet files with photos or their paths.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Run on the Ray cluster at ADDRESS; local: one on this machine."),
    ] = None,
    batch: Batch = 8,
    threads: Threads = None,
    exif: Exif = True,
    as_json: Json = False,
) -> None:
    """Run a network on every photo of INPUT, into files of rows: one row per photo, errors included.

    Rows have the best classes of networks that classify. Of others they have what `predict --json` prints.

    A job that was ended, by whatever, goes on with --resume, and leaves the same bytes as one that was not. The exit
    code is 4 where photos could not be used.
    """
    from nybble.batch import FORMATS, Job, Network, Settings, open_input, run
    from nybble.batch.on_ray import Work, check_installed, run_on_ray
    from nybble.models import find

    if file_format not in FORMATS:
        raise WrongUsageError(f"--format {file_format}: is not one of {', '.join(FORMATS)}")
    if ray is not None:
        check_installed()
    chosen = find(model, ensembles=True)
    network = Network(chosen.path, threads, embeddings=embeddings)
    settings = Settings(file_format, shard, top, embeddings, exif)
    job = Job(open_input(photos, column), network, settings, out)
    runs = partial(run, job, out, batch=batch)
    if ray is not None:
        work = Work(chosen.path.absolute(), photos.absolute(), column, settings, threads or 1, batch)
        runs = partial(run_on_ray, job, work, out, ray)
    with one_bar(rate=True) as progress:
        outcome = runs(resume=resume, retry_failed=retry_failed, max_failure_rate=max_failure_rate, progress=progress)
    network.close()
    if as_json:
        print_json({"model": chosen.name, "out": str(out), **outcome._asdict()})
    else:
        typer.echo(
            f"{plural(outcome.photos, 'photo')}, {outcome.errors} with errors, in {out}; "
            f"{outcome.done} done in this run"
        )
    if outcome.errors:
        raise typer.Exit(ExitCode.LEFT_OUT)
