"""The base of operations that only move codes: from the float ir into the graph and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from nybble.graph import Node
from nybble.quantize.fake.moves import Move
from nybble.quantize.ir.float_network import Op
from nybble.quantize.ops.base import FloatOperation

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation


class MovedCodes(FloatOperation):
    """Codes of one value in other places: the quantizer stays.

    Attributes
    ----------
    kind : type
        The node in the graph.
    """

    kind: ClassVar[type[Node]]

    def attributes(self, op: Any) -> Mapping[str, Any]:
        """The attributes of the graph's node, from the operation in the float ir."""
        raise NotImplementedError

    def op_of(self, node: Any, shape: tuple[int, ...]) -> Op:
        """The operation in the float ir, from the graph's node and the shape of its result."""
        raise NotImplementedError

    def prepare(self, op: Op, preparation: Preparation) -> None:
        """The operation reads codes."""
        module = self.modules[0](op)
        preparation.on_codes(op, module)

    def convert(self, module: Any, step: Step, conversion: Conversion) -> None:
        """The type and the unit stay the same."""
        (source,) = step.inputs
        conversion.units[step.name] = conversion.units[source]
        node = self.kind(
            name=conversion.free(step.name),
            inputs=(conversion.values[source],),
            **{"input_type": conversion.type_of(source).dtype, **self.attributes(module.move)},
        )
        conversion.add(node)
        conversion.values[step.name] = node.name

    def restore(self, node: Any, restoration: Restoration) -> None:
        """The quantizer of the input is kept."""
        restoration.quantizers[node.name] = restoration.quantizers[node.inputs[0]]
        op = self.op_of(node, restoration.graph.values[node.name].shape)
        restoration.append(node, self.modules[0](op), node.inputs[0])

    def copied_from(self, node: Any, restoration: Restoration) -> str | None:
        """Codes are not changed."""
        inputs: tuple[str, ...] = node.inputs
        return inputs[0]


__all__ = ["Move", "MovedCodes"]
