"""Finds the model that is meant: a folder, a file, a name, that of ``NYBBLE_MODEL``, or the bundled default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from nybble.graph.errors import NybbleError
from nybble.graph.reading import is_model_file

#: The environment variable that names the model if none is given.
MODEL_VARIABLE = "NYBBLE_MODEL"
#: The bundled classifiers: the one that is the default, and the larger one.
CLASSIFIERS = ("efficientnet-lite0", "resnet50")
SHIPPED, LARGER = CLASSIFIERS
#: The bundled network that finds objects.
DETECTOR = "fastestdet"
#: The bundled networks: folders of ``models/`` in the repository, of ``nybble/data/models/`` once installed.
NETWORKS = (*CLASSIFIERS, DETECTOR)
#: The bundled cascade of the two classifiers: the file ``NAME.toml`` in a folder of that name, beside those of the
#: networks.
CASCADE = "lite0-resnet50"


class ModelNotFoundError(NybbleError, ValueError):
    """Raised if a model is not found; the text says how to get one."""


class Found(NamedTuple):
    """A model folder or file or the file of an ensemble, the user's name for it, and why it was chosen."""

    path: Path
    name: str
    why: str


def names() -> list[str]:
    """Models that have a name: the bundled ones, then those that can be fetched."""
    from nybble import published

    return [*NETWORKS, CASCADE, *published.available()]


def bundled(name: str) -> Path | None:
    """The folder of a bundled network, or the file of the bundled cascade; ``None`` if this installation lacks it."""
    package = Path(__file__).resolve().parent
    for models in (package / "data" / "models", package.parents[1] / "models"):
        folder = models / name
        if name == CASCADE and (file := folder / f"{name}.toml").is_file():
            return file
        if name != CASCADE and (folder / "model" / "model").is_file():
            return folder
    return None


def is_ensemble(path: Path) -> bool:
    """Whether a path is a file that may describe an ensemble, by its suffix."""
    return path.suffix.lower() == ".toml" and path.is_file()


def locate(model: str, *, ensembles: bool = False) -> Path:
    """The folder or file that a path or a name means; with ``ensembles`` also the TOML file of an ensemble.

    A file is a model directory packed by ``nybble pack``, or an ONNX file.

    Raises
    ------
    ModelNotFoundError
        Where there is neither such a folder or file nor a model of that name here; the text says how to get one.
    """
    path = Path(model)
    try:
        path = path.expanduser()
        is_model, is_there, is_described = path.is_dir() or is_model_file(path), path.exists(), is_ensemble(path)
    except (OSError, RuntimeError) as error:  # A name too long, a folder that may not be read, no home.
        raise ModelNotFoundError(f"{model}: {getattr(error, 'strerror', None) or error}") from error
    if is_model or (is_described and ensembles):
        return path
    if is_described or (model == CASCADE and not ensembles):
        raise ModelNotFoundError(f"{model}: describes an ensemble, and this needs a single network; name a member")
    if model in (*NETWORKS, CASCADE):
        folder = bundled(model)
        if folder is None:
            raise ModelNotFoundError(f"{model} is missing from this installation of nybble; install nybble again")
        return folder
    # Slow to import, and not needed for most models.
    import difflib

    from nybble import published

    if model in published.available():
        folder = published.cached(model)
        if folder is None:
            raise ModelNotFoundError(f"{model} is not downloaded yet; run: nybble fetch {model}")
        return folder
    if is_there:
        raise ModelNotFoundError(
            f"{model}: is not a model: a model is a folder, such a folder packed by `nybble pack`, or an .onnx file"
        )
    close = difflib.get_close_matches(model.lower(), names(), n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise ModelNotFoundError(
        f"{model}: there is no such folder or file; {meant}{', '.join(NETWORKS)} and {CASCADE} come with nybble, "
        f"`nybble fetch {published.available()[0]}` downloads a model"
    )


def find(model: str | None = None, *, ensembles: bool = False) -> Found:
    """The model that is named, else that of ``NYBBLE_MODEL``, else the bundled default.

    ``ensembles`` is as for :func:`locate`.

    Raises
    ------
    ModelNotFoundError
        As :func:`locate`. A model that is named and missing is not silently replaced by the default.
    """
    if model is not None:
        return Found(locate(model, ensembles=ensembles), model, "the one asked for")
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        try:
            return Found(locate(named, ensembles=ensembles), named, f"named by {MODEL_VARIABLE}")
        except ModelNotFoundError as error:
            raise ModelNotFoundError(f"{MODEL_VARIABLE}: {error}") from None
    return Found(locate(SHIPPED), SHIPPED, "comes with nybble")
