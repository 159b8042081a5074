"""The registered operations, by node type and by the name of the layer type."""

from __future__ import annotations

from typing import Any

from nybble.graph.nodes import Node
from nybble.graph.ops.base import Operation
from nybble.graph.plugins import PluginError, declared_once

#: The entry points of other packages: each names an instance of :class:`Operation`.
GROUP = "nybble.operations"

_by_kind: dict[str, Operation[Any]] = {}
_by_node: dict[type[Node], Operation[Any]] = {}


def register(operation: Operation[Any]) -> None:
    """Make an operation known to inference, the reference and the model directory.

    Raises
    ------
    PluginError
        If another operation has the layer type.
    """
    known = _by_kind.get(operation.kind)
    if known is not None:
        module = type(known).__module__
        raise PluginError(f"the layer type {operation.kind} is taken by {module}; rename the node's class")
    _by_kind[operation.kind] = operation
    _by_node[operation.node] = operation


def unregister(operation: Operation[Any]) -> None:
    """Forget an operation that :func:`register` made known."""
    del _by_kind[operation.kind]
    del _by_node[operation.node]


def operations() -> dict[str, Operation[Any]]:
    """All operations by layer type, in alphabetical order; those of other packages included."""
    _load_packages()
    return dict(sorted(_by_kind.items()))


def operation_named(kind: str) -> Operation[Any] | None:
    """The operation of a layer type, or ``None``."""
    if kind not in _by_kind:
        _load_packages()
    return _by_kind.get(kind)


def operation_of(node: Node) -> Operation[Any] | None:
    """The operation of a node, or ``None``."""
    kind = type(node)
    if kind not in _by_node:
        _load_packages()
    return _by_node.get(kind)


#: Registers the operations of other packages. It runs only for an unknown type, since a search of all packages takes
#: time.
_load_packages = declared_once(GROUP, Operation, lambda found: _by_kind.get(found.kind) is found, register)
