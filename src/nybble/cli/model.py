"""The MODEL argument: a folder, or the name of a model that was fetched; and where the demo looks for one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from nybble.cli.errors import CommandError

#: The variable that names the model of the demo.
MODEL_VARIABLE = "NYBBLE_MODEL"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model folder, the folder that holds it, or the name of a fetched model.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Threads to run on.", show_default="one a core")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


class ModelNotFoundError(CommandError):
    """A MODEL argument that names nothing."""


class Found(NamedTuple):
    """A model for the demo, and why it is this one."""

    path: Path
    why: str


def locate(model: str) -> Path:
    """The folder that a MODEL argument means.

    Raises
    ------
    ModelNotFoundError
        Where there is neither such a folder nor a fetched model of that name; the text says how to get one.
    """
    from nybble import fetch

    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model in fetch.available():
        folder = fetch.cached(model)
        if folder is None:
            raise ModelNotFoundError(f"{model} is not downloaded yet; run: nybble fetch {model}")
        return folder
    if path.exists():
        raise ModelNotFoundError(f"{model}: a model is a folder, this is a file")
    example = fetch.available()[0]
    raise ModelNotFoundError(f"{model}: there is no such folder; `nybble fetch {example}` downloads a model")


def find(model: str | None) -> Found | None:
    """The model to show: the one asked for, else ``NYBBLE_MODEL``, a fetched one, or a checkout's data.

    Raises
    ------
    ModelNotFoundError
        Where the argument or the variable names nothing; a wrong wish is not silently replaced.
    """
    from nybble import fetch

    if model is not None:
        return Found(locate(model), "the one asked for")
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        try:
            return Found(locate(named), f"named by {MODEL_VARIABLE}")
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"{MODEL_VARIABLE}: {error}") from None
    for name in fetch.available():
        folder = fetch.cached(name)
        if folder is not None:
            return Found(folder, "fetched before, in the cache")
    for data in _checkout_data():
        for name in fetch.available():
            if (data / name).is_dir():
                return Found(data / name, "development data beside the checkout")
    return None


def _checkout_data() -> list[Path]:
    """``../shared/data`` as seen from the current folder and from the checkout this package runs from."""
    roots = [Path.cwd()]
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file():
        roots.append(checkout)
    return [root.parent / "shared" / "data" for root in roots]
