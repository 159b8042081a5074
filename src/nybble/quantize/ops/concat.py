"""Concatenations of channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Stack, Translation, Unsupported
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, operand_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class Concat(FakeOperation):
    """The channels of several values, one after the other: all are codes of one quantizer, so they can be copied."""

    joins_codes = True

    def forward(self, *values: Tensor) -> Tensor:
        """Tensors (N, C, H, W) that agree but for C."""
        return torch.cat(values, 1)


@forms.aten("cat.default", stacks=True)
def _cat(shape: tuple[int, ...], values: Sequence[Any], dim: int = 0) -> Result:
    return vocabulary.concat(values, dim)


@forms.aten("stack.default")
def _stack(shape: tuple[int, ...], values: Sequence[Any], dim: int = 0) -> Result:
    return vocabulary.stack(values, dim)


def _check_joined(node: Any, inputs: Sequence[Value | None]) -> None:
    value = next((value for value in inputs if isinstance(value, Translation)), None)
    for array in inputs:
        if array is None:
            raise Unsupported("it joins an input that is left out")
        if isinstance(array, np.ndarray) and (
            value is None
            or array.ndim != len(value.shape) + 1
            or array.shape[0] not in (1, node.batch)
            or array.shape[2:] != value.shape[1:]
        ):
            shape = "a stack" if value is None else f"images of {value.shape}"
            raise Unsupported(f"a constant of shape {array.shape} cannot be joined with {shape}")


@forms.onnx("Concat", check=_check_joined)
def _onnx_concat(node: Any, *values: Value) -> Result:
    given = [value if isinstance(value, Stack) else operand_of(value) for value in values]
    return vocabulary.concat(given, node.get("axis"))


class Concatenation(FloatOperation):
    """Channels beside each other: codes of one quantizer, which are copied."""

    forms = forms
    ops = (float_network.Concat,)
    modules = (Concat,)
    nodes = (graph.Concat,)
    joins_codes = True

    def examples(self) -> Iterator[FloatExample]:
        """Cover two values, one value and its maxima, and one value rounded with two ranges."""
        yield around("relu", lambda: lambda x: torch.cat([functional.relu(x), functional.relu(-x)], 1), 12)
        yield around("maxima", lambda: lambda x: torch.cat([functional.max_pool2d(x, 3, 1, 1), x], 1), 12)
        yield around("ranges", lambda: lambda x: torch.cat([functional.relu6(x), x], 1), 12)

    def prepare(self, op: float_network.Concat, preparation: Preparation) -> None:
        """Inputs with codes of another quantizer, such as the network's input or a ReLU6, are rounded again."""
        coded = [preparation.coded(name) for name in op.inputs]
        quantizer = coded[0][1]
        if any(other is not quantizer for _, other in coded):
            quantizer = preparation.shared_quantizer(op.name)
        steps = [
            step if own is quantizer else preparation.step(f"{op.name}.rescale", quantizer, step) for step, own in coded
        ]
        preparation.codes[op.name] = (preparation.step(op.name, Concat(), *steps), quantizer)

    def convert(self, module: Concat, step: Step, conversion: Conversion) -> None:
        """The type and the unit stay the same."""
        source = step.inputs[0]
        reads = conversion.type_of(source).dtype
        conversion.units[step.name] = conversion.units[source]
        conversion.append(step, graph.Concat, input_type=reads)

    def restore(self, node: graph.Concat, restoration: Restoration) -> None:
        """All inputs have one quantizer."""
        restoration.quantizers[node.name] = restoration.quantizers[node.inputs[0]]
        restoration.append(node, Concat(), *node.inputs)


register(Concatenation())
