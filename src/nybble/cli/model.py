"""Options that several commands have in common: the model, threads, JSON."""

from __future__ import annotations

from typing import Annotated

import typer

#: More than the engine takes are wrong usage, not an error of the engine.
MOST_THREADS = 1024
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
    int | None,
    typer.Option("--threads", "-t", min=1, max=MOST_THREADS, help="Threads to run on.", show_default="one per core"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
