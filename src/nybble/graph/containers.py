"""The containers of the published directory (Sequential, BottleneckQuantized, ResNetQuantized), as plain nodes.

One description of the structure, :func:`expand_resnet`, is used for reading and writing. When reading, its parts come
from files. When writing, they come from the graph's nodes by name, and a graph is written with containers only if the
expansion reproduces exactly its nodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Protocol

from nybble.graph.graph import Graph
from nybble.graph.lines import LayerText
from nybble.graph.nodes import Node, Pair
from nybble.graph.ops import Add, Conv2d
from nybble.graph.types import DType

SEQUENTIAL = "Sequential"
BOTTLENECK = "BottleneckQuantized"
RESNET = "ResNetQuantized"
#: Name of the input, which the containers do not record.
INPUT = "input"
#: Name and type of a ResNet's layers before and after its four stages.
STEM = (("conv1", "Conv2d"), ("relu", "ReLU"), ("quantize1", "Quantize"), ("maxpool", "MaxPool2d"))
STAGES = ("layer1", "layer2", "layer3", "layer4")
HEAD = (("avgpool", "AvgPool2d"), ("fc", "Linear"), ("scale", "Scale"))
#: How deep containers may be nested; the published directory has three levels.
MAX_DEPTH = 16


class Source(Protocol):
    """The source of the parts of :func:`expand_resnet`. Each implementation raises its own kind of error."""

    def kind(self, name: str) -> str:
        """Type of the layer or container of that name."""

    def children_count(self, name: str) -> int:
        """The number of children of a Sequential, at least one."""

    def layer(self, file_name: str, kind: str | None, name: str, value: str) -> Node:
        """A node of the given name and type (any type, if ``None``) that reads ``value``."""

    def bottleneck(self, name: str, stride: Pair) -> None:
        """Read or check the attributes of a block whose three convolutions have ``stride`` in total."""

    def too_deep(self, name: str) -> Exception:
        """The error for a container that lies too deep."""


class Expansion:
    """Nodes of a ResNet in execution order, and the file behind each."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.nodes: list[Node] = []
        self.files: dict[str, str] = {}

    def layer(self, file_name: str, kind: str | None, value: str, name: str | None = None) -> Node:
        """Append one layer that reads ``value``."""
        node = self._source.layer(file_name, kind, name or file_name, value)
        self._append(node, file_name)
        return node

    def module(self, name: str, value: str, depth: int) -> str:
        """Append a layer or a container and return the name of its output."""
        if depth > MAX_DEPTH:
            raise self._source.too_deep(name)
        kind = self._source.kind(name)
        if kind == SEQUENTIAL:
            for position in range(self._source.children_count(name)):
                value = self.module(f"{name}_{position}", value, depth + 1)
            return value
        if kind == BOTTLENECK:
            return self._bottleneck(name, value, depth)
        return self.layer(name, None, value).name

    def _bottleneck(self, name: str, source: str, depth: int) -> str:
        value = source
        strides: list[Pair] = []
        for part in (1, 2):
            value = self._conv(f"{name}_conv{part}", value, strides)
            value = self.layer(f"{name}_relu", "ReLU", value, f"{name}_relu{part}").name
            value = self.layer(f"{name}_quantize{part}", "Quantize", value).name
        # Before the third convolution, so that the shortcut exists when the addition is fused into that.
        shortcut = self.module(f"{name}_downsample", source, depth + 1)
        value = self._conv(f"{name}_conv3", value, strides)
        self._source.bottleneck(
            name, Pair(math.prod(stride.rows for stride in strides), math.prod(stride.columns for stride in strides))
        )
        self._append(Add(name=f"{name}_add", inputs=(value, shortcut)), name)
        value = self.layer(f"{name}_relu", "ReLU", f"{name}_add", f"{name}_relu3").name
        return self.layer(f"{name}_quantize3", "Quantize", value).name

    def _conv(self, name: str, value: str, strides: list[Pair]) -> str:
        node = self.layer(name, "Conv2d", value)
        if isinstance(node, Conv2d):
            strides.append(node.stride)
        return node.name

    def _append(self, node: Node, file_name: str) -> None:
        self.nodes.append(node)
        self.files[node.name] = file_name


def expand_resnet(source: Source) -> Expansion:
    """The nodes of a ResNetQuantized; its input is called ``input``, its output ``scale``."""
    expansion = Expansion(source)
    value = INPUT
    for name, kind in STEM:
        value = expansion.layer(name, kind, value).name
    for name in STAGES:
        value = expansion.module(name, value, 1)
    for name, kind in HEAD:
        value = expansion.layer(name, kind, value).name
    return expansion


class NotExpressibleError(Exception):
    """Raised if the containers cannot express a graph. Callers in this module always catch it."""


class GraphSource:
    """Finds a ResNet's parts among a graph's nodes by name, and collects the containers' texts."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self.containers: dict[str, LayerText] = {}

    def kind(self, name: str) -> str:
        """Type of the node of that name, or of the container that its parts' names imply."""
        if name in self._nodes:
            return self._nodes[name].op
        if f"{name}_conv1" in self._nodes:
            return BOTTLENECK
        # Only names are followed here, so a chain of x_0_0_0... must be limited.
        if name.count("_0") <= MAX_DEPTH and self._exists(f"{name}_0"):
            return SEQUENTIAL
        raise NotExpressibleError(name)

    def children_count(self, name: str) -> int:
        """How many consecutive children have nodes."""
        count = 1
        while self._exists(f"{name}_{count}"):
            count += 1
        self.containers[name] = LayerText(SEQUENTIAL)
        self.containers[name].add("children_count", count)
        return count

    def layer(self, file_name: str, kind: str | None, name: str, value: str) -> Node:
        """The graph's node, made to read ``value``."""
        node = self._nodes.get(name)
        if node is None or kind not in (None, node.op) or len(node.inputs) != 1:
            raise NotExpressibleError(name)
        return replace(node, inputs=(value,))

    def bottleneck(self, name: str, stride: Pair) -> None:
        """Write the block's own file."""
        if stride.rows != stride.columns:
            raise NotExpressibleError(name)
        self.containers[name] = LayerText(BOTTLENECK)
        self.containers[name].add("stride", stride.rows)
        self.containers[name].add("downsample_layer", True)

    def too_deep(self, name: str) -> Exception:
        """Such a graph is written without containers."""
        return NotExpressibleError(name)

    def _exists(self, name: str) -> bool:
        try:
            self.kind(name)
        except NotExpressibleError:
            return False
        return True


def collapse(graph: Graph) -> tuple[Expansion, dict[str, LayerText]] | None:
    """Files of the nodes and texts of the containers, root included, if containers can express the graph.

    ``None`` unless reading them would give the same nodes, names, order, input, output and preprocessing.
    """
    if len(graph.inputs) != 1 or graph.inputs[0].name != INPUT or graph.outputs != ("scale",):
        return None
    if graph.preprocessing is None:
        return None
    source = GraphSource({node.name: node for node in graph.nodes})
    try:
        expansion = expand_resnet(source)
    except NotExpressibleError:
        return None
    if len(expansion.nodes) != len(graph.nodes) or not all(map(_same, expansion.nodes, graph.nodes)):
        return None
    # Layers that share a file must be the same layer.
    by_file: dict[str, Node] = {}
    for node in expansion.nodes:
        first = by_file.setdefault(expansion.files[node.name], node)
        if node.op != "Add" and not _same(replace(node, name=first.name, inputs=first.inputs), first):
            return None
    root = LayerText(RESNET)
    root.add("compute_mode", f"{graph.inputs[0].dtype}{DType.F32}")
    return expansion, {"model": root} | source.containers


def _same(left: Node, right: Node) -> bool:
    """Whether two nodes agree in type and in every attribute; tensors must be the same objects."""
    return type(left) is type(right) and all(
        getattr(left, entry.name) == getattr(right, entry.name) for entry in fields(left)
    )
