"""The form of a network that the CPU backend plans, tunes and stores choices for."""

from __future__ import annotations

from nybble.graph import Graph
from nybble.lower import expand
from nybble.lower.focus import without_focus


def lowered(graph: Graph) -> Graph:
    """The graph with composite operations expanded, and each focus merged into the convolution that reads it."""
    return without_focus(expand(graph))
