"""A version of a model that is being served."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nybble.engine import Engine, Ensemble, load
from nybble.graph import Classify, Graph, GraphError, Task
from nybble.graph.types import Array
from nybble.images import class_names
from nybble.serve.admission import Places
from nybble.serve.errors import ServeError
from nybble.serve.members import Members
from nybble.serve.metrics import Metrics
from nybble.serve.processor import Lane
from nybble.serve.results import LOGITS, Output, outputs_of, packed
from nybble.serve.settings import ModelSettings
from nybble.serve.statistics import Statistics


class Served:
    """An engine, its work and its statistics.

    Attributes
    ----------
    name, version : str
    engine : Engine
        A network or an ensemble.
    tensor_shape : tuple of int
        Of a photo in a tensor request: (H, W, C); (bytes,) of an ensemble whose members' crops have several sizes.
    task : Task or None
        The meaning of the outputs; ``None`` if unknown: then the outputs are served without it.
    outputs : tuple of Output
    class_names : tuple of str
        Of a network that classifies; empty of others.
    lane : Lane
    places : Places
        Of the photos under way.
    admitted : Gauge
        Of these, of all versions.
    statistics : dict
        By whether the model takes encoded photos.

    Raises
    ------
    ServeError
        Where the model takes no photos, or an output has a type that the protocol lacks.
    NybbleError
        Where it cannot be loaded.
    """

    def __init__(
        self, name: str, version: str, path: Path, settings: ModelSettings, threads: int | None, metrics: Metrics
    ) -> None:
        self.name, self.version = name, version
        self.engine: Engine = load(path, threads=threads)
        self._single: Engine | None = None
        graph = self.engine.graph
        try:
            if graph.preprocessing is None:
                raise ServeError(f"{path}: the model has no file `preprocessing`, so it takes no photos")
            self.task = _task(graph)
            self.class_names: tuple[str, ...] = class_names(graph) if self.classifies else ()
            self.outputs = self._outputs(graph)
        except BaseException:
            self.engine.close()
            raise
        if isinstance(self.engine, Ensemble):
            members = Members(name, self.engine, metrics)
            self.tensor_shape = self.engine.crop_shape or self.engine.photo_shape
            self.lane = Lane(name, members.run, settings.batch, join=members.join, dearest=members.dearest)
        else:
            self.tensor_shape = self.engine.photo_shape
            if self.engine.threads > 1:
                # Of what has been read: the folder may have changed. Both have the same weights in memory.
                self._single = Engine(graph, threads=1)
            single = self._run_single if self._single else None
            self.lane = Lane(name, self._run, settings.batch, single=single, width=self.engine.threads)
        self.places = Places(settings.queue)
        self.admitted = metrics.admitted.labels(name)
        self.statistics = {False: Statistics(), True: Statistics()}
        self._requests = 0
        self._is_retired = False

    @property
    def classifies(self) -> bool:
        """Whether the one output is logits: work is answered by these, (N, classes), and else by all outputs packed."""
        return isinstance(self.task, Classify)

    @property
    def is_idle(self) -> bool:
        """Whether it is retired and nothing is under way: it may be closed."""
        return self._is_retired and not self._requests

    def enter(self) -> None:
        """Note that a request is under way: the engine stays open until :meth:`leave`."""
        self._requests += 1

    def leave(self) -> None:
        """Note that a request has ended."""
        self._requests -= 1

    def retire(self) -> None:
        """No new request will come."""
        self._is_retired = True

    def _outputs(self, graph: Graph) -> tuple[Output, ...]:
        if self.classifies:
            return (Output(LOGITS, np.dtype(np.float32), (len(self.class_names),)),)
        return outputs_of(graph)

    def close(self) -> None:
        """Give the memory back."""
        self.engine.close()
        if self._single is not None:
            self._single.close()

    def _run(self, photos: Array) -> Array:
        return self._answer(self.engine, photos)

    def _run_single(self, photos: Array) -> Array:
        assert self._single is not None  # noqa: S101
        return self._answer(self._single, photos)

    def _answer(self, engine: Engine, photos: Array) -> Array:
        return engine(photos).reshape(len(photos), -1) if self.classifies else packed(engine.run(photos), self.outputs)


def _task(graph: Graph) -> Task | None:
    from nybble.tasks import task_of

    try:
        found = task_of(graph)
    except GraphError:
        return None
    # A network whose logits are one of several outputs is served as those are.
    return None if isinstance(found, Classify) and len(graph.outputs) != 1 else found
