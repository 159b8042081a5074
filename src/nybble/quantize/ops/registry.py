"""The registered float operations, by all that they are asked for."""

from __future__ import annotations

from torch import nn

from nybble.graph import Node
from nybble.graph.plugins import PluginError, declared_once
from nybble.quantize.errors import QuantizeError
from nybble.quantize.ir.float_network import FloatNetwork, Op
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.forms import AtenForm, OnnxForm

#: The entry points of other packages: each names an instance of :class:`FloatOperation`.
GROUP = "nybble.float_operations"

_registered: list[FloatOperation] = []


def register(operation: FloatOperation) -> None:
    """Make an operation known to all of quantization.

    Raises
    ------
    PluginError
        If another operation has one of its classes.
    """
    for other in _registered:
        for kinds in ("ops", "modules", "nodes"):
            if shared := set(getattr(other, kinds)) & set(getattr(operation, kinds)):
                name = shared.pop().__name__
                raise PluginError(f"{name} belongs to {type(other).__name__}; {type(operation).__name__} needs its own")
    _registered.append(operation)


def unregister(operation: FloatOperation) -> None:
    """Forget an operation that :func:`register` made known."""
    _registered.remove(operation)


#: Registers what other packages declare.
_load_packages = declared_once(GROUP, FloatOperation, _registered.__contains__, register)


def operations() -> tuple[FloatOperation, ...]:
    """All operations in the order of their registration, those of other packages included."""
    _load_packages()
    return tuple(_registered)


def aten_forms(target: str) -> list[AtenForm]:
    """What an ATen operation such as ``relu.default`` may mean; the latest operation to be registered comes first."""
    found = (operation.forms.of_aten.get(target) for operation in reversed(operations()))
    return [form for form in found if form is not None]


def onnx_forms(operator: str) -> list[OnnxForm]:
    """What an ONNX operator may mean, the latest operation first."""
    found = (operation.forms.of_onnx.get(operator) for operation in reversed(operations()))
    return [form for form in found if form is not None]


def onnx_operators() -> set[str]:
    """The ONNX operators that some operation knows."""
    return {operator for operation in operations() for operator in operation.forms.of_onnx}


def operation_of(op: Op) -> FloatOperation:
    """The operation of one in the float ir. Raises QuantizeError where there is none."""
    for operation in operations():
        if type(op) in operation.ops:
            return operation
    raise QuantizeError(f"{op.place or op.name}: {type(op).__name__} has no quantized form")


def operation_of_module(name: str, module: nn.Module) -> FloatOperation:
    """The operation of a step's module, by the nearest of its classes. Raises QuantizeError where there is none."""
    for kind in type(module).__mro__:
        for operation in operations():
            if kind in operation.modules:
                return operation
    raise QuantizeError(f"{name}: {type(module).__name__} has no integer form")


def operation_of_node(node: Node) -> FloatOperation:
    """The operation that restores a node. Raises QuantizeError where there is none."""
    for operation in operations():
        if type(node) in operation.nodes:
            return operation
    raise QuantizeError(f"{node.name}: {node.op} cannot be restored")


def rewrite(network: FloatNetwork) -> None:
    """Let every operation put its own in place of others of the same meaning, the latest to be registered first."""
    for operation in reversed(operations()):
        operation.rewrite(network)
