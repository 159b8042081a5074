"""What float operations use to get from an integer network back to one that can be trained."""

from __future__ import annotations

from typing import Any, Protocol

from torch import nn

from nybble.graph import DType, Graph, Node, Quantize
from nybble.graph.types import Array
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.fake.weighted import QuantizedLayer


class Restoration(Protocol):
    """What operations put the steps into that their nodes came from.

    Attributes
    ----------
    graph : Graph
    nodes : dict of str to Node
    consumers : dict of str to list of Node
        By value, the nodes that read it.
    made : dict of str to str
        By value of the graph, the step that makes it.
    quantizers : dict of str to ActivationQuantizer
        By value, the quantizer behind its codes.
    layers : dict of str to QuantizedLayer
        By value that is sums, the layer whose units they have.
    """

    graph: Graph
    nodes: dict[str, Node]
    consumers: dict[str, list[Node]]
    made: dict[str, str]
    quantizers: dict[str, ActivationQuantizer]
    layers: dict[str, QuantizedLayer]

    def append(self, node: Node, module: nn.Module, *sources: str) -> None:
        """Add the step that a node came from; ``sources`` are values of the graph."""

    def append_rounded(self, node: Node, module: nn.Module, quantizer: ActivationQuantizer, *sources: str) -> None:
        """Add the two steps that a node came from: what computes it, and the quantizer behind that."""

    def append_layer(self, node: Any, kind: type[QuantizedLayer], **own: Any) -> None:
        """Add the layer of a node with weights; ``own`` are further arguments of its class."""

    def inherit(self, node: Node, source: str | None = None) -> None:
        """Let a value's sums have the units of the layer that made them."""

    def quantizer(self, name: str, dtype: DType, shift: int | None) -> ActivationQuantizer:
        """The quantizer of the value that a node gives: its own, or that of what its codes are joined with."""

    def scale(self, name: str) -> float:
        """The step of a value's codes."""

    def chosen_scale(self, node: Quantize) -> float:
        """A step for the codes that a node makes of sums, where the graph leaves it open."""

    def unit(self, node: Node) -> Array:
        """(K,): what a unit of sums stands for, by what makes them: a layer, or a rescaling of codes (`root_of`)."""

    def unit_from_readers(self, name: str) -> Array | None:
        """(K,): what a unit of sums stands for by what becomes of them, or ``None``."""

    def finest_rounding(self, root: Node) -> float | None:
        """The finest step that sums are rounded to, or ``None`` if they are not."""

    def root_of(self, name: str) -> Node:
        """What makes the sums whose unit a value has: a layer, or a rescaling where activations are added."""

    def is_rescaled(self, name: str) -> bool:
        """Whether a value is codes brought into the unit of sums."""

    def is_projection(self, name: str) -> bool:
        """Whether a value is rounded sums that only additions read."""
