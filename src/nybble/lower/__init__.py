"""Lowering: from a graph to fused layers with the types, shapes and bounds that backends need."""

from nybble.graph.expansion import expand
from nybble.lower.base import LOWERINGS, Fusion, Lowering
from nybble.lower.fuse import fuse
from nybble.lower.host import Tail, split_host
from nybble.lower.step import Channels, Conv, Pool, Step, Value, Window

__all__ = [
    "LOWERINGS",
    "Channels",
    "Conv",
    "Fusion",
    "Lowering",
    "Pool",
    "Step",
    "Tail",
    "Value",
    "Window",
    "expand",
    "fuse",
    "split_host",
]
