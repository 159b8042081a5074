"""Which values of a file are functions of one activation that elementwise operators spell out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx

from nybble.graph.onnx.elements import EVALUATORS, FUNCTIONS, INTEGERS, OF_TWO
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.values import Constant, Value
from nybble.graph.types import Array


class Regions:
    """Which values of a file are functions of one activation.

    Parameters
    ----------
    nodes : sequence of onnx.NodeProto
        In their order.
    values : mapping of str to Value
        With all constants.
    readers : mapping of str to list of onnx.NodeProto
    outputs : collection of str
    is_ours : bool
        Whether nybble has written the file. A product of an activation with itself is then one, whatever reads it; in
        other files it belongs to a function.
    apart : collection of str
        Names of nodes that are nodes of the graph, whatever they read.

    Attributes
    ----------
    roots : dict of str to str
        For every value that is computed by elementwise operators from one activation and numbers: the activation.
    tabled : set of str
        Those that only a table can express.
    inside : set of str
        Other values that only parts of a table read, so that they are not imported separately.
    numbers : dict of str to array
        (codes): each value for each code of the activation, as far as the import has computed it.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        values: Mapping[str, Value],
        readers: Mapping[str, Sequence[onnx.NodeProto]],
        outputs: Collection[str],
        *,
        is_ours: bool = False,
        apart: Collection[str] = (),
    ) -> None:
        self.roots: dict[str, str] = {}
        self.tabled: set[str] = set()
        self.inside: set[str] = set()
        self.numbers: dict[str, Array] = {}
        self._values = values
        self._is_ours = is_ours
        # DequantizeLinear nodes that say the same give one activation.
        first: dict[tuple[str, ...], str] = {}
        activations: dict[str, str] = {}
        for node in nodes:
            if not node.output or self._is_constant(node.output[0]):
                continue
            if node.op_type == "DequantizeLinear":
                activations[node.output[0]] = first.setdefault(tuple(node.input), node.output[0])
            elif node.op_type in EVALUATORS and label(node) not in apart:
                self._visit(node, activations)
        for node in reversed(nodes):
            name = node.output[0] if node.output else ""
            if name in self.roots and name not in self.tabled and name not in outputs:
                made = [reader.output[0] for reader in readers.get(name, ()) if reader.output]
                if made and all(entry in self.tabled or entry in self.inside for entry in made):
                    self.inside.add(name)

    def _is_constant(self, name: str) -> bool:
        return isinstance(self._values.get(name), Constant)

    def _visit(self, node: onnx.NodeProto, activations: Mapping[str, str]) -> None:
        read = [name for name in node.input if name and not self._is_constant(name)]
        roots = {self.roots.get(name, activations.get(name, "")) for name in read}
        if len(roots) != 1 or "" in roots:
            return
        is_gather = node.op_type == "Gather"
        if is_gather and read != list(node.input[1:]):
            return
        for place, name in enumerate(node.input):
            constant = self._values.get(name)
            if isinstance(constant, Constant) and constant.real.size != 1 and not (is_gather and place == 0):
                return
        name = node.output[0]
        (self.roots[name],) = roots
        into_integers = node.op_type == "Cast" and attribute(node, "to", 0) in INTEGERS
        is_square = self._is_ours and node.op_type == "Mul" and self.roots.keys().isdisjoint(read)
        of_two = node.op_type in OF_TWO and len(read) > 1 and not is_square
        if node.op_type in FUNCTIONS or into_integers or of_two or self.tabled.intersection(read):
            self.tabled.add(name)
