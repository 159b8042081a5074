"""Options that several commands have in common: the model, threads, JSON."""

from __future__ import annotations

from typing import Annotated

import typer

#: What ``nybble.models.find`` takes.
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A model folder, the folder that holds it, or the name of a model.",
        show_default="NYBBLE_MODEL, else the network that comes with nybble",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Threads to run on.", show_default="one a core")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
