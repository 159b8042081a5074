"""The network or the ensemble that a run measures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, cast

from nybble.engine import Ensemble, load
from nybble.engine.ensemble.digest import ensemble_digest
from nybble.graph import Graph, read_graph
from nybble.graph.digest import model_digest
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.store import Form, form_of
from nybble.models import is_ensemble


class Subject(NamedTuple):
    """The subject of a measurement.

    Attributes
    ----------
    graphs : tuple of Graph
        The network, or the members of the ensemble.
    form : Form
        How photos are prepared.
    digest : str
        Of all that its answers depend on, as hex.
    """

    graphs: tuple[Graph, ...]
    form: Form
    digest: str


def open_subject(path: Path, name: str) -> Subject:
    """The network of a model folder, or the ensemble of a TOML file.

    Raises
    ------
    MlperfError, ModelFormatError, EnsembleError
        If it cannot be read or takes no photos.
    """
    if is_ensemble(path):
        # Closed at once: the process that runs LoadGen opens it again.
        with cast("Ensemble", load(path, threads=1)) as ensemble:
            graphs = tuple(member.engine.graph for member in ensemble.members)
            form = Form(ensemble.photo_shape, ensemble.preprocessings, ensemble.prepare)
            return Subject(graphs, form, hashlib.sha256(ensemble_digest(ensemble).encode()).hexdigest())
    graph = read_graph(path)
    if graph.preprocessing is None:
        raise MlperfError(f"{name}: has no file `preprocessing`, so it takes no photos; see docs/format.md")
    return Subject((graph,), form_of(graph.preprocessing), model_digest(graph))
