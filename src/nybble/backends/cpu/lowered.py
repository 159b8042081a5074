"""The form of a network that is planned, tuned and stored choices for."""

from __future__ import annotations

from nybble.graph import Graph
from nybble.lower import expand
from nybble.lower.focus import without_focus


def lowered(graph: Graph) -> Graph:
    """Operations that are said in terms of others replaced, each focus in the convolution that reads it."""
    return without_focus(expand(graph))
