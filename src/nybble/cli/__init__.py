"""The ``nybble`` command. Each command is a file, which is imported when it is called; ``commands.py`` lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from nybble.cli.group import Root

app = typer.Typer(
    cls=Root,
    # Plain text, 80 columns at most: rich would take 0.1 s to import.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"nybble {version('nybble')}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done; 1 a difference was found or a check failed; 2 wrong usage; 3 any other error; "
    "4 done, but inputs were left out; 130 interrupted."
)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Run image networks in 4-bit integers.

    MODEL is a model folder, a file (packed by `nybble pack`, or ONNX) or the name of a model; `nybble models` lists
    those that have a name. The default is the model that NYBBLE_MODEL names, else efficientnet-lite0.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


__all__ = ["app"]
