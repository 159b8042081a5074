"""The readers of ONNX operators, by the operators' names.

ONNX operators and nodes of a graph do not correspond one to one, so a reader belongs to an operator: it takes the ONNX
node and returns the value of its output. Several readers may handle one operator; the first that does not decline is
used. Those that operations declare (:attr:`nybble.graph.ops.Operation.onnx_operators`) come before most others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import label
from nybble.graph.onnx.operators.declared import declining
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.remedies import unsupported
from nybble.graph.onnx.values import Value
from nybble.graph.ops.registry import operations

#: The value of a node's output; ``None`` if the reader declines the node and another reader may accept it.
Reader: TypeAlias = Callable[[Importing, onnx.NodeProto], Value | None]


@dataclass
class _Operator:
    first: list[Reader] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    takes_padding: bool = False
    commutes: bool = False
    rearranges: bool = False


_operators: dict[str, _Operator] = {}


def reads(
    *names: str, first: bool = False, takes_padding: bool = False, commutes: bool = False, rearranges: bool = False
) -> Callable[[Reader], Reader]:
    """Register a function as a reader of ONNX operators.

    Parameters
    ----------
    *names : str
        As ``op_type`` has them.
    first : bool
        Whether it is tried before all others, including those of operations.
    takes_padding : bool
        Whether it accepts a value with a pending Pad.
    commutes : bool
        Whether quantizing commutes with the operators: they keep the order of numbers, or only rearrange them.
    rearranges : bool
        Whether it only moves numbers, so that a property of all numbers of the output holds for the input too.
    """

    def register(reader: Reader) -> Reader:
        for name in names:
            entry = _operators.setdefault(name, _Operator())
            (entry.first if first else entry.readers).append(reader)
            entry.takes_padding |= takes_padding
            entry.commutes |= commutes
            entry.rearranges |= rearranges
        return reader

    return register


def known_operators() -> list[str]:
    """The operators that some reader knows, in alphabetical order."""
    declared = {name for operation in operations().values() for name in operation.onnx_operators}
    return sorted(declared | _operators.keys())


def is_known(name: str) -> bool:
    """Whether some reader knows an operator."""
    return name in _operators or name in known_operators()


def takes_padding(name: str) -> bool:
    """Whether an operator merges a Pad before it."""
    return name in _operators and _operators[name].takes_padding


def commutes(name: str) -> bool:
    """Whether quantizing commutes with an operator."""
    return name in _operators and _operators[name].commutes


def rearranges(name: str) -> bool:
    """Whether an operator moves numbers only."""
    return name in _operators and _operators[name].rearranges


def read(importer: Importing, node: onnx.NodeProto) -> Value:
    """The value of a node's output.

    Raises
    ------
    OnnxImportError
        If no reader accepts it; the text names a remedy.
    """
    declared = [entry for entry in operations().values() if node.op_type in entry.onnx_operators]
    own = _operators.get(node.op_type, _Operator())
    for reader in (*own.first, *map(declining, declared), *own.readers):
        found = reader(importer, node)
        if found is not None:
            return found
    raise OnnxImportError(unsupported(node.op_type), node=label(node))
