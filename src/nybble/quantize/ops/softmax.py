"""A softmax at the end, which is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Stack, Translation, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import Around, FloatExample, example
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value
from nybble.quantize.ops.registry import register

forms = Forms()


@forms.aten("softmax.int", "_softmax.default", stacks=True)
def _softmax(shape: tuple[int, ...], x: Translation | Stack, dim: int, dtype: Any = None) -> Result:
    if isinstance(x, Stack):
        return vocabulary.softmax_of_stack(x, dim)
    return vocabulary.softmax(x, dim)


@forms.aten("log_softmax.int", "_log_softmax.default")
def _log_softmax(shape: tuple[int, ...], x: Translation, dim: int, dtype: Any = None) -> Result:
    return vocabulary.softmax(x, dim, log=True)


@forms.onnx("LogSoftmax")
@forms.onnx("Softmax", stacks=True)
def _onnx_softmax(node: Any, x: Value) -> Result:
    if isinstance(x, Stack) and node.op == "Softmax":
        return vocabulary.softmax_of_stack(x, node.get("axis", -1))
    # At the end: the order of the classes stays, and logits are what is compared and distilled.
    x = value_of(x)
    axis = node.get("axis", 1 if len(x.shape) == 1 else -1)
    return vocabulary.softmax(x, axis, log=node.op == "LogSoftmax")


class Softmax(FloatOperation):
    """No operation: the front ends note that it is left out."""

    forms = forms

    def examples(self) -> Iterator[FloatExample]:
        """Cover a softmax at the end."""
        yield example("at the end", lambda: nn.Sequential(Around(nn.ReLU()), nn.Softmax(1)))


register(Softmax())
