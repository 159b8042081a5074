"""Options that several commands have in common: the model, threads, JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nybble import Engine

#: The engine's limit: a larger number is wrong usage.
MOST_THREADS = 1024
#: What ``nybble.models.find`` takes.
Model = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="A model folder or file, or the name of a model; commands that run photos also take the TOML file of an "
        "ensemble.",
        show_default="NYBBLE_MODEL, else the bundled network",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-t", min=1, max=MOST_THREADS, help="Threads to run on.", show_default="one per core"),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="What runs the network: cpu, cuda (an NVIDIA GPU), cuda-emulated or reference.",
    ),
]
#: The default of --device.
CPU = "cpu"
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def load_engine(path: Path, threads: int | None, device: str, isa: str | None = None) -> Engine:
    """The engine of a model on a device. ``isa`` is ignored on the CPU. Raises :class:`EngineError` in one line."""
    import nybble

    if device == CPU:
        return nybble.load(path, threads=threads)
    return nybble.load(path, threads=threads, isa=isa, device=device)
