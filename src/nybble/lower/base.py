"""How the nodes of one type become steps, or parts of steps."""

from __future__ import annotations

from abc import ABC
from typing import Any, ClassVar, Generic, TypeVar

from nybble.graph import Graph, Node
from nybble.graph.plugins import Registry
from nybble.lower.clips import clips
from nybble.lower.step import Channels, Step, Value

N = TypeVar("N", bound=Node)


class Fusion:
    """A graph while its nodes are being fused."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.taken: set[str] = set()
        self._readers = graph.consumers()
        self._nodes = {node.name: node for node in graph.nodes}
        self._clips = clips(graph)
        self._ends = {entry.name for entry in graph.inputs}, set(graph.outputs)

    def value(self, name: str) -> Value:
        """A value by its name."""
        about = self.graph.values[name]
        inputs, outputs = self._ends
        return Value(
            name, about.dtype, about.shape, about.magnitude, name in inputs, name in outputs, self._clips[name]
        )

    def node(self, name: str) -> Node | None:
        """The node that computes a value, ``None`` of the network's input."""
        return self._nodes.get(name)

    def only_reader(self, name: str) -> Node | None:
        """The only reader of a value, if it may be fused with the node that computes the value; else ``None``."""
        readers = self._readers[name]
        if len(readers) != 1 or name in self._ends[1] or readers[0].name in self.taken:
            return None
        return readers[0]


class Lowering(ABC, Generic[N]):
    """How nodes of one type become steps, or parts of steps.

    Attributes
    ----------
    node : type
        The node's dataclass.
    kind : str
        The kind of step that such a node begins where it is not fused.
    channels : Channels
        See :class:`~nybble.lower.step.Step`.
    epilogue : tuple of str
        Parts that such a step may include behind its head, in this order: of ``add``, ``relu``, ``quantize`` and
        ``table``.
    part : str
        Which part of a step such a node can be; empty if none.
    """

    node: ClassVar[type[Any]]
    kind: ClassVar[str]
    channels: ClassVar[Channels] = Channels.FIXED
    epilogue: ClassVar[tuple[str, ...]] = ()
    part: ClassVar[str] = ""

    def begin(self, node: N, step: Step) -> None:
        """Fill in the step that a node begins: its body, or its own part. Inputs and channels are set."""
        return

    def take_operands(self, node: N, step: Step, fusion: Fusion) -> None:
        """Add nodes that compute operands of the step's head, if no other step reads these operands."""
        return

    def join(self, node: N, step: Step, fusion: Fusion) -> bool:
        """Include ``node``, the only reader of the step's result, as its :attr:`part`. False if that is impossible."""
        return False


#: Lowerings by node type. Modules of ``nybble.lower.steps`` register theirs; other packages use entry points of the
#: group ``nybble.lowerings``, each of which names an instance of :class:`Lowering`.
LOWERINGS: Registry[type[Node], Lowering[Any]] = Registry(
    Lowering, "nybble.lower.steps", "nybble.lowerings", lambda lowering: lowering.node
)
