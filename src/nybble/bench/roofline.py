"""Each layer's rate and the machine's peak rates: the points of a roofline plot."""

from __future__ import annotations

from typing import Any

from nybble.engine import Engine
from nybble.engine.profile import profile
from nybble.graph import Graph
from nybble.graph.types import Array

#: Runs of each photo.
RUNS = 3


def layer_points(graph: Graph, photos: Array, threads: int, isa: str | None) -> list[dict[str, Any]] | None:
    """Time and work of each convolution and linear layer, one image at a time.

    ``None`` where the model does not say how photos become its input.

    Parameters
    ----------
    graph : Graph
        With preprocessing.
    photos : array
        uint8 (N, H, W, C).
    threads : int
    isa : str or None
    """
    if graph.preprocessing is None:
        return None
    integers = graph.preprocessing.quantize(graph.preprocessing.normalise(photos)).transpose(0, 3, 1, 2).copy()
    with Engine(graph, threads=threads, isa=isa) as engine:
        measured = profile(engine, integers, RUNS)
        used = engine.isa
    points = []
    for layer in measured.layers:
        if not layer.macs or not layer.seconds:
            continue
        points.append(
            {
                "name": layer.name,
                "method": getattr(layer.kernel, "method", None),
                "isa": used,
                "seconds": layer.seconds,
                "macs": layer.macs,
                "gmacs_per_second": layer.macs / layer.seconds / 1e9,
                "zero_share": layer.zero_share,
                "bytes": layer.bytes,
            }
        )
    return points
