"""Names of classes, and the classes of a network that names mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib import resources

from nybble.graph import Classify, Graph, GraphError
from nybble.images.errors import printable, some


def class_names(graph: Graph) -> tuple[str, ...]:
    """A name for each class of the graph's first output.

    The graph's own names, if it has one for each class. For any other network of 1,000 classes, those of ImageNet.
    Otherwise ``class 0``, ``class 1`` and so on. Raises as :func:`network_classes`.
    """
    classes = network_classes(graph)
    return tuple(f"class {index}" for index in range(classes)) if isinstance(classes, int) else classes


def network_classes(graph: Graph) -> tuple[str, ...] | int:
    """The names of the classes as in :func:`class_names`, or the number of classes where they have no names.

    Raises
    ------
    GraphError
        If the output is not one number for each class.
    """
    output = graph.values[graph.outputs[0]]
    if math.prod(output.shape[1:]) != 1:
        raise GraphError(f"the output is {output}, not one number for each class; it names no classes")
    return known_classes(output.shape[0], graph.class_names)


def label_classes(graph: Graph) -> tuple[str, ...] | int | None:
    """As :func:`network_classes`; ``None`` for a network of another task, whose photos are labelled in other ways."""
    if graph.task is not None and not isinstance(graph.task, Classify):
        return None
    output = graph.values[graph.outputs[0]]
    return network_classes(graph) if len(graph.outputs) == 1 and math.prod(output.shape[1:]) == 1 else None


def known_classes(count: int, own: Sequence[str] | None) -> tuple[str, ...] | int:
    """The names of ``count`` classes: ``own``, if complete, or ImageNet's; ``count`` where there are no names."""
    if own is not None and len(own) == count:
        return tuple(own)
    names = _imagenet()
    return names if count == len(names) else count


def match_classes(found: Sequence[str], network: int | Sequence[str]) -> list[int] | str:
    """The network's number of each class that photos are labelled with.

    By name if all names are among the network's. In order of name if none of them is and the numbers of classes agree.

    Parameters
    ----------
    found : sequence of str
        In order of name.
    network : int or sequence of str
        The network's class names, or the number of its classes.

    Returns
    -------
    list of int or str
        Numbers in the order of ``found``; or, where the names do not match, a line that says so.
    """
    count = network if isinstance(network, int) else len(network)
    known = {} if isinstance(network, int) else {name: number for number, name in enumerate(network)}
    missing = [name for name in found if name not in known]
    if not missing and not isinstance(network, int):
        twice = next((name for name in found if Counter(network)[name] > 1), None)
        if twice is None:
            return [known[name] for name in found]
        return f"class {twice!r} is the name of several classes of the network; label by number in a labels.csv"
    if len(missing) < len(found):
        return f"class {printable(missing[0])!r} is not a class of the network, although others are; correct the name"
    if len(found) == count:
        return list(range(count))
    return (
        f"has {len(found)} class{'es' * (len(found) != 1)} ({some(found)}), but the network has {count} classes of "
        "other names; list the photos with the network's numbers in a labels.csv (file,label)"
    )


@cache
def _imagenet() -> tuple[str, ...]:
    text = (resources.files("nybble") / "data" / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
