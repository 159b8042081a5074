"""``nybble models``: the models that ship, those that can be fetched, and those in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nybble.cli.model import Json
from nybble.cli.output import print_json, print_table, table

if TYPE_CHECKING:
    from nybble.catalog import Listed


def models(as_json: Json = False) -> None:
    """List the models that have a name, with size, accuracy and licence.

    Bundled models come with nybble; `nybble fetch NAME` downloads published ones into the cache.
    """
    from nybble.cache import cache_folder
    from nybble.catalog import listed

    found = listed()
    if as_json:
        print_json({"cache": str(cache_folder()), "models": [model.to_json() for model in found]})
        return
    grid = table("model", "where", "size", "accuracy", "licence", numbers=("size", "accuracy"))
    for model in found:
        grid.add_row(model.name, _where(model), f"{model.size / 1e6:.1f} MB", _accuracy(model), model.license or "")
    print_table(grid)
    typer.echo("")
    for model in found:
        typer.echo(f"{model.name}: {model.description}")
    sets = sorted({f"{model.top1.of} photos ({model.top1.photos})" for model in found if model.top1 is not None})
    sets += sorted({f"{model.figure.metric} on {model.figure.photos}" for model in found if model.figure is not None})
    typer.echo(f"top-1 on {', '.join(sets)}; docs/log/accuracy.md says which they are")
    typer.echo(f"cache: {cache_folder()}")


def _accuracy(model: Listed) -> str:
    if model.top1 is not None:
        return f"{model.top1.right / model.top1.of:.1%}"
    return "" if model.figure is None else f"{model.figure.metric} {100 * model.figure.share:.1f}"


def _where(model: Listed) -> str:
    if model.source == "bundled":
        return "bundled" if model.path is not None else "missing"
    return "cache" if model.path is not None else "nybble fetch"
