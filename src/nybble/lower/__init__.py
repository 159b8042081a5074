"""Lowering: from a graph to fused layers with the types, shapes and bounds that backends need."""

from nybble.graph.expansion import expand
from nybble.lower.fuse import fuse
from nybble.lower.step import Pool, Step

__all__ = ["Pool", "Step", "expand", "fuse"]
