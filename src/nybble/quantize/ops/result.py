"""Outputs of a network that is not a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nybble import graph
from nybble.quantize.fake.operation import Returned
from nybble.quantize.ir import float_network
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation


class Returning(FloatOperation):
    """A value that the network returns as real numbers, in any shape. What follows it on the host is not trained."""

    ops = (float_network.Result,)
    modules = (Returned,)
    nodes = (graph.RealSigmoid, graph.RealSoftmax, graph.RealTranspose, graph.RealReshape, graph.RealConcat)

    def examples(self) -> Iterator[FloatExample]:
        """There are none: networks with outputs have their own tests."""
        yield around("none", lambda: lambda x: x)

    def prepare(self, op: float_network.Result, preparation: Preparation) -> None:
        """The exact sums if there are any, else the codes."""
        preparation.step(op.name, Returned(op.label), preparation.finished(op.inputs[0]))

    def convert(self, module: Returned, step: Step, conversion: Conversion) -> None:
        """The value stays the same; the conversion adds the node that makes it real."""
        conversion.values[step.name] = conversion.values[step.inputs[0]]
        conversion.units[step.name] = conversion.units[step.inputs[0]]

    def restore(self, node: Any, restoration: Restoration) -> None:
        """Not supported yet."""
        super().restore(node, restoration)


register(Returning())
