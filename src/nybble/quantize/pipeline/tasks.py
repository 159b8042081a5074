"""The parts of a run that differ for a network that is not a classifier: its task, and outputs instead of answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from torch import Tensor, nn

from nybble.engine import Engine
from nybble.graph import Detect, GraphError, Restore, Segment, Task, Text
from nybble.graph.task_file import task_of_fields
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.lower.conversion import plain_name
from nybble.quantize.pipeline.settings import PipelineConfig
from nybble.quantize.train import Evaluation, OutputEvaluation

#: Fields of a task that name outputs.
_NAMING = ("output", "boxes", "scores", "objectness")


def task_of_source(source: str, module: nn.Module, config: PipelineConfig, outputs: tuple[str, ...]) -> Task | None:
    """The task from the configuration or, without one, from the module's attribute ``task``.

    Outputs may be named as the source has them, or as the model directory will: in letters, digits and ``_``.

    Raises
    ------
    QuantizeError
        If it reads an output that the network does not have.
    """
    try:
        task = task_of_fields(config.task) if config.task is not None else getattr(module, "task", None)
    except (GraphError, KeyError, TypeError, ValueError) as error:
        raise QuantizeError(f"task: {error}") from error
    if not isinstance(task, Task):
        return None
    names = {name: plain_name(name) for name in outputs}
    if outputs and (unknown := [name for name in task.reads() if name not in {*names, *names.values()}]):
        raise QuantizeError(
            f"{source}: the task {task.kind} reads {unknown[0][:80]!r}, which is not an output; "
            f"the outputs are {', '.join(outputs[:8])}"
        )
    return _renamed(task, names)


def _renamed(task: Task, names: dict[str, str]) -> Task:
    changed: dict[str, Any] = {}
    for entry in dataclasses.fields(task):
        value = getattr(task, entry.name)
        if entry.name in _NAMING:
            changed[entry.name] = (
                names.get(value, value) if isinstance(value, str) else tuple(names.get(name, name) for name in value)
            )
    return dataclasses.replace(task, **changed)


def check_config(source: str, config: PipelineConfig, outputs: tuple[str, ...], task: Task | None) -> None:
    """Refuse settings that need classes.

    Raises
    ------
    QuantizeError
        Naming the setting to use instead.
    """
    listed = ", ".join(outputs[:4])
    if config.training.epochs and config.training.distillation < 1:
        raise QuantizeError(
            f"{source}: is not a classifier (it returns {listed}), so the float network's outputs train it: "
            "give --distil, or --epochs 0"
        )
    if config.min_accuracy is not None:
        raise QuantizeError(
            f"{source}: is not a classifier, so it has no top-1 to ask for; choose bits by --speed or --four-bit-share"
        )
    if config.mixed.criterion != "sqnr" and not isinstance(task, Detect | Segment | Restore | Text):
        raise QuantizeError(
            f"{source}: is not a classifier; without a task that has a metric, mixed.criterion must be sqnr, the noise "
            "of the outputs"
        )
    if config.noise is not None and task is not None and not isinstance(task, Restore):
        raise QuantizeError(f"noise is added for the task restore, not for {task.kind}")


class EngineOutputs:
    """The engine as what evaluation compares: from normalised images (N, C, H, W) to all outputs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, x: Tensor) -> dict[str, Array]:
        """Float32 by name, in the graph's order."""
        found: dict[str, Array] = self._engine.run(np.ascontiguousarray(x.numpy()))
        return found


def without_answers(found: OutputEvaluation) -> Evaluation:
    """What a stage has in place of top-1: nothing but the report of its photos."""
    return Evaluation(top1=None, top5=None, loss=None, predictions={}, labels={}, report=found.report)


def exact(network: QuantizedNetwork, images: int) -> OutputEvaluation:
    """The float network against itself."""
    return OutputEvaluation(dict.fromkeys(network.outputs, 0.0), images)
