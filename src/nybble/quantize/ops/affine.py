"""Constants by channel, which are folded into layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.nn import functional

from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, operand_of
from nybble.quantize.ops.registry import register

forms = Forms()


@forms.aten("mul.Tensor", "mul.Scalar", "multiply.Tensor")
def _mul(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    return vocabulary.multiply(left, right)


@forms.aten("div.Tensor", "div.Scalar", "true_divide.Tensor", "div.Tensor_mode")
def _div(shape: tuple[int, ...], left: Any, right: Any, rounding_mode: str | None = None) -> Result:
    if rounding_mode is not None:
        raise Unsupported(f"a division that rounds ({rounding_mode}) has no integer form; divide without rounding")
    return vocabulary.divide(left, right)


@forms.aten("neg.default")
def _neg(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.negate(x)


@forms.onnx("Mul")
def _onnx_multiply(node: Any, left: Value, right: Value) -> Result:
    return vocabulary.multiply(operand_of(left), operand_of(right))


@forms.onnx("Div")
def _onnx_divide(node: Any, left: Value, right: Value) -> Result:
    return vocabulary.divide(operand_of(left), operand_of(right))


@forms.onnx("Neg")
def _onnx_negate(node: Any, x: Value) -> Result:
    return vocabulary.negate(value_of(x))


class ConstantsByChannel(FloatOperation):
    """Folding removes all of them."""

    forms = forms

    def examples(self) -> Iterator[FloatExample]:
        """Cover constants before a layer and behind one."""
        yield around("behind", lambda: lambda x: functional.relu(x * 2 - 0.25))
        yield around("before", lambda: lambda x: functional.relu(x) / 1.5)


register(ConstantsByChannel())
