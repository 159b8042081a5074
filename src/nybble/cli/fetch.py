"""``nybble fetch``: download a published model into the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from nybble.cli.model import Json
from nybble.cli.output import plural, print_json
from nybble.cli.progress import one_bar


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model: nvidia-resnet50-int4.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Download every file anew.")] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="BASE", help="Download from here, a mirror of the model's folder.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a published model.

    It comes from the public archive of its publisher. Every file is checked against a SHA-256 that ships with
    nybble, and an interrupted download goes on where it stopped. The model is kept in the user's cache folder, or in
    NYBBLE_CACHE.
    """
    from nybble import published
    from nybble.fetch import fetch as download

    manifest = published.read_manifest(name)
    with one_bar(size=True) as progress:
        result = download(manifest, base=url, force=force, progress=progress)
    if as_json:
        found = {**vars(result), "path": str(result.path)}
        print_json({"model": name, "license": manifest.license, **found})
        return
    if result.downloaded:
        what = f"{plural(result.downloaded, 'file')}, {result.downloaded_bytes / 1e6:.1f} MB downloaded"
        if result.kept:
            what += f", {result.kept} were there"
    else:
        what = f"all {plural(result.kept, 'file')} were there and are right"
    typer.echo(f"{name}: {what}")
    typer.echo(f"{manifest.description}; {manifest.license}")
    typer.echo(f"in {result.path}")
