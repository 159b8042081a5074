"""A model or an ensemble by its path or name."""

from __future__ import annotations

import os
from functools import partial

from nybble.engine.engine import Engine
from nybble.graph import read_graph
from nybble.models import find, is_ensemble


def load(
    path: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    isa: str | None = None,
    *,
    tuned: bool = True,
    device: str = "cpu",
) -> Engine:
    """Load a model into an engine, or the file of an ensemble into a :class:`nybble.Ensemble`.

    Parameters
    ----------
    path : path, optional
        The folder ``model/`` or the one that contains it, such a folder packed by ``nybble pack``, an ONNX file in QDQ
        form, the TOML file of an ensemble, or the name of a model: ``efficientnet-lite0``, ``resnet50``,
        ``lite0-resnet50``, or one that ``nybble fetch`` has downloaded. The default is the model that the environment
        variable ``NYBBLE_MODEL`` names, otherwise ``efficientnet-lite0``.
    threads, isa, tuned, device
        As for :class:`Engine`.

    Raises
    ------
    ModelFormatError
        Naming file and line, if the directory or the packed one cannot be read.
    OnnxImportError
        Naming the node of an ONNX file that nybble cannot express.
    ModelNotFoundError
        If there is neither such a folder nor a model of that name; the text says how to get one.
    EngineError
        If ``threads``, ``isa`` or ``device`` is not available here, or the file of an ensemble is wrong.

    Examples
    --------
    >>> import nybble
    >>> engine = nybble.load("efficientnet-lite0", threads=1)
    >>> engine.photo_shape
    (224, 224, 3)
    """
    chosen = find(None if path is None else os.fsdecode(path), ensembles=True)
    engine: Engine
    if is_ensemble(chosen.path):
        from nybble.engine.ensemble import load_ensemble

        engine = load_ensemble(chosen.path, threads, isa, tuned=tuned, device=device)
    else:
        engine = Engine(read_graph(chosen.path), threads=threads, isa=isa, tuned=tuned, device=device)
    # A name, such as that of a bundled model, means the same on another machine.
    place = os.path.abspath(chosen.path) if os.path.exists(chosen.name) else chosen.name  # noqa: PTH100, PTH110
    engine._reload = partial(load, place, threads, isa, tuned=tuned, device=device)
    return engine
