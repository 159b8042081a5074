"""What the classes are called."""

from __future__ import annotations

from functools import cache
from importlib import resources

from nybble.graph import Graph


def class_names(graph: Graph) -> tuple[str, ...]:
    """A name for each class of the graph's first output.

    The graph's own where it brings one for each class; ImageNet's for any other network of 1,000 classes; else
    ``class 0``, ``class 1`` and so on.
    """
    classes = graph.values[graph.outputs[0]].shape[0]
    if graph.class_names is not None and len(graph.class_names) == classes:
        return graph.class_names
    names = _imagenet()
    return names if classes == len(names) else tuple(f"class {index}" for index in range(classes))


@cache
def _imagenet() -> tuple[str, ...]:
    text = (resources.files("nybble") / "data" / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
