"""A network that gives logits and, where wanted, what its last layer reads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nybble.batch.errors import BatchError
from nybble.engine import Engine
from nybble.graph import Graph, Input, Preprocessing, read_graph
from nybble.graph.digest import model_digest
from nybble.graph.nodes import Node
from nybble.graph.ops.registry import operation_of
from nybble.graph.ops.units import Unit
from nybble.graph.types import Array
from nybble.images import class_names


class Found(NamedTuple):
    """Logits (N, classes), and embeddings, float32 (N, features), where they are wanted."""

    logits: Array
    embeddings: Array | None


class Network:
    """A model for a job.

    With ``embeddings`` the network is run in two parts: to the value that its last weighted layer reads, and from
    there on. Integers are exact, so the logits are those of the whole network.

    Attributes
    ----------
    preprocessing : Preprocessing
    class_names : tuple of str
    digest : str
        Of all that the answers depend on.

    Raises
    ------
    BatchError
        Where the model takes no photos, or has no last layer to part it at.
    """

    def __init__(self, path: Path, threads: int | None, *, embeddings: bool) -> None:
        graph = read_graph(path)
        if graph.preprocessing is None:
            raise BatchError(f"{path}: the model has no file `preprocessing`, so it takes no photos")
        self.preprocessing: Preprocessing = graph.preprocessing
        self.class_names = class_names(graph)
        self.digest = f"{model_digest(graph)} {graph.preprocessing} {self.class_names}"
        self._head: Engine | None = None
        if embeddings:
            body, head = parted(graph)
            self._engine = Engine(body, threads=threads)
            self._head = Engine(head, threads=threads)
        else:
            self._engine = Engine(graph, threads=threads)

    def run(self, photos: Array) -> Found:
        """Logits and embeddings of uint8 photos (N, H, W, C)."""
        values = self._engine(photos)
        if self._head is None:
            return Found(values.reshape(len(photos), -1), None)
        logits = self._head.run_integer(values).reshape(len(photos), -1)
        return Found(logits, values.reshape(len(photos), -1).astype(np.float32))

    def close(self) -> None:
        """Give threads and memory back."""
        self._engine.close()
        if self._head is not None:
            self._head.close()


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
