"""The agreement of ONNX Runtime's answers for an ONNX file with the engine's for the corresponding graph."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nybble.engine import Engine
from nybble.graph import Graph
from nybble.graph.types import Array

if TYPE_CHECKING:
    import onnx

#: The remark if ONNX Runtime is missing.
MISSING = "ONNX Runtime is not installed (pip install onnxruntime)"


@dataclass(frozen=True)
class Agreement:
    """A comparison of ONNX Runtime's answers for some inputs with the engine's.

    Attributes
    ----------
    runtime : str
        Name and version.
    optimised : bool
        Whether the runtime's graph optimisations were on.
    inputs : int
    same_class : int
        Inputs for which both give the same class.
    ties : int
        Inputs for which the engine's two best logits are equal, so that a different class is not an error.
    equal_logits : int
        Inputs for which all logits are equal, bit for bit.
    largest_difference : float
        Of any logit, as a share of the engine's largest logit.
    """

    runtime: str
    optimised: bool
    inputs: int
    same_class: int
    ties: int
    equal_logits: int
    largest_difference: float

    def __str__(self) -> str:
        how = "optimised" if self.optimised else "plain"
        ties = f" ({self.ties} tie{'s' * (self.ties != 1)})" if self.ties else ""
        return (
            f"{self.runtime}, {how}: same class for {self.same_class} of {self.inputs} inputs{ties}, "
            f"equal logits for {self.equal_logits}, relative difference up to {self.largest_difference:.1e}"
        )


def is_available() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def measure(
    graph: Graph, model: onnx.ModelProto, inputs: Array, feed: Array, *, threads: int = 1
) -> tuple[Agreement, Agreement]:
    """Run a graph in the engine and a model in ONNX Runtime, with and without the runtime's optimisations.

    Parameters
    ----------
    graph : Graph
        With one input.
    model : onnx.ModelProto
        Its first output is compared with the graph's first.
    inputs : ndarray
        (N, C, H, W) integers for the engine.
    feed : ndarray
        The same for the model's only input.
    threads : int

    Returns
    -------
    tuple of Agreement
        Optimised, then not.
    """
    with Engine(graph, threads=threads, tuned=False) as engine:
        wanted = engine.run_integer(inputs).reshape(len(inputs), -1)
    content = model.SerializeToString()
    optimised, plain = (
        compare(wanted, _answers(content, feed, threads, is_optimised), is_optimised) for is_optimised in (True, False)
    )
    return optimised, plain


def compare(wanted: Array, found: Array, optimised: bool) -> Agreement:
    """The engine's logits (N, classes) beside ONNX Runtime's."""
    import onnxruntime

    two = np.sort(wanted, axis=1)[:, -2:]
    difference = float(np.abs(found.astype(np.float64) - wanted).max(initial=0.0))
    largest = float(np.abs(wanted.astype(np.float64)).max(initial=0.0))
    return Agreement(
        f"ONNX Runtime {onnxruntime.__version__}",
        optimised,
        len(wanted),
        int(np.sum(wanted.argmax(axis=1) == found.argmax(axis=1))),
        int(np.sum(two[:, 0] == two[:, -1])) if wanted.shape[1] > 1 else 0,
        int(np.sum(np.all(wanted == found, axis=1))),
        difference / largest if largest else difference,
    )


def _answers(content: bytes, feed: Array, threads: int, is_optimised: bool) -> Array:
    session = open_session(content, threads=threads, is_optimised=is_optimised)
    entry = session.get_inputs()[0]
    batch = entry.shape[0]
    # A file may fix its batch: then the last images are repeated to fill one.
    size = batch if isinstance(batch, int) and batch > 0 else len(feed)
    parts = [_filled(feed[first : first + size], size) for first in range(0, len(feed), size)]
    answers = np.concatenate([session.run(None, {entry.name: part})[0].reshape(size, -1) for part in parts])
    return answers[: len(feed)]


def _filled(part: Array, size: int) -> Array:
    missing = size - len(part)
    return part if not missing else np.concatenate([part, part[-1:].repeat(missing, axis=0)])


def open_session(content: bytes | str | os.PathLike[str], *, threads: int, is_optimised: bool) -> Any:
    """A session of ONNX Runtime on its CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if is_optimised else levels.ORT_DISABLE_ALL
    providers: Sequence[str] = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(content, options, providers=providers)
