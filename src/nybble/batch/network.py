"""A network or an ensemble that gives logits and, for a network, the input of its last layer."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nybble.batch.errors import BatchError
from nybble.engine import Engine, Ensemble, load
from nybble.engine.ensemble.digest import answers_digest, ensemble_digest
from nybble.engine.predicting import answer_fitted, fitted
from nybble.graph import Classify, Graph, Input, Task, Tensor, read_graph
from nybble.graph.digest import model_digest
from nybble.graph.nodes import Node
from nybble.graph.ops.registry import operation_of
from nybble.graph.ops.units import Unit
from nybble.graph.types import Array
from nybble.images import Fit, PhotoSource, class_names
from nybble.models import is_ensemble
from nybble.tasks import task_names, task_of


class Found(NamedTuple):
    """Logits (N, classes), and embeddings, float32 (N, features), where they are wanted."""

    logits: Array
    embeddings: Array | None


class Network:
    """A model for a job.

    With ``embeddings`` the network runs in two parts: up to the value that its last weighted layer reads, and from
    there on. Integers are exact, so the logits equal those of the whole network.

    Attributes
    ----------
    class_names : tuple of str
        Of a network that classifies; empty of others.
    classifies : bool
        Whether :meth:`run` gives logits; :meth:`answer` says what others find.
    digest : str
        Of all that the answers depend on.

    Raises
    ------
    BatchError
        Where the model takes no photos, has no last layer to part it at, or is an ensemble or of another task than
        classification, which has no embeddings.
    GraphError
        Where the model has several outputs, or one that is not a number for each class, and no task.
    """

    classifies = True

    def __init__(self, path: Path, threads: int | None, *, embeddings: bool) -> None:
        self._head: Engine | None = None
        if is_ensemble(path):
            self._open_ensemble(path, threads, embeddings)
        else:
            self._open_network(path, threads, embeddings)

    def _open_ensemble(self, path: Path, threads: int | None, embeddings: bool) -> None:
        if embeddings:
            raise BatchError(f"{path}: an ensemble has no embeddings; name one of its members")
        ensemble = load(path, threads=threads)
        assert isinstance(ensemble, Ensemble)  # noqa: S101
        self.class_names = class_names(ensemble.graph)
        self.digest = ensemble_digest(ensemble)
        self._engine: Engine = ensemble

    def _open_network(self, path: Path, threads: int | None, embeddings: bool) -> None:
        graph = read_graph(path)
        if graph.preprocessing is None:
            raise BatchError(f"{path}: the model has no file `preprocessing`, so it takes no photos")
        task = task_of(graph)
        self.classifies = isinstance(task, Classify) and len(graph.outputs) == 1
        if not self.classifies:
            if embeddings:
                raise BatchError(
                    f"--embeddings: the task of {path} is {task.kind}; only networks that classify have them"
                )
            self.class_names = ()
            self.digest = f"{model_digest(graph)} {graph.preprocessing} {task_names(graph)} {_digest(task)}"
            self._engine = Engine(graph, threads=threads)
            return
        self.class_names, self.digest = class_names(graph), answers_digest(graph)
        if embeddings:
            body, head = parted(graph)
            self._engine = Engine(body, threads=threads)
            self._head = Engine(head, threads=threads)
        else:
            self._engine = Engine(graph, threads=threads)

    def prepare(self, photo: PhotoSource, *, exif: bool) -> Any:
        """A decoded photo, as :meth:`run` or :meth:`answer` takes it; several threads may call it."""
        if not self.classifies:
            return fitted(self._engine.graph, photo, exif=exif)
        return self._engine.prepare(photo, exif=exif)

    def run(self, photos: Array) -> Found:
        """Logits and embeddings of prepared photos (N, ...)."""
        values = self._engine(photos)
        if self._head is None:
            return Found(values.reshape(len(photos), -1), None)
        logits = self._head.run_integer(values).reshape(len(photos), -1)
        return Found(logits, values.reshape(len(photos), -1).astype(np.float32))

    def answer(self, photo: tuple[Array, Fit]) -> dict[str, Any]:
        """The network's answer for a prepared photo, as ``nybble predict --json`` has it."""
        return answer_fitted(self._engine, *photo).to_json()

    def close(self) -> None:
        """Give threads and memory back."""
        self._engine.close()
        if self._head is not None:
            self._head.close()


def _digest(task: Task) -> str:
    """The properties that distinguish tasks of one kind."""
    values = {field.name: getattr(task, field.name) for field in fields(task)}
    shown = {name: value.numpy().tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
    return f"{task.kind} {shown}"


def parted(graph: Graph) -> tuple[Graph, Graph]:
    """A network up to the value that its last weighted layer reads, and from there on.

    Raises
    ------
    BatchError
        Where there is no such layer, or a layer behind it reads another value too.
    """
    weighted = [place for place, node in enumerate(graph.nodes) if _is_weighted(node)]
    if not weighted:
        raise BatchError("the network has no layer with weights, so it has no embeddings")
    place = weighted[-1]
    (value,) = graph.nodes[place].inputs
    behind = graph.nodes[place:]
    known = {value, *(node.name for node in behind)}
    if value == graph.inputs[0].name or not all(name in known for node in behind for name in node.inputs):
        raise BatchError("the network's last layers read several values, so it has no embeddings")
    kind = graph.values[value]
    body = Graph(graph.inputs, graph.nodes[:place], [value], preprocessing=graph.preprocessing)
    head = Graph([Input(name=value, dtype=kind.dtype, shape=kind.shape)], behind, graph.outputs)
    return body, head


def _is_weighted(node: Node) -> bool:
    operation = operation_of(node)
    return operation is not None and operation.unit is Unit.WEIGHTED
