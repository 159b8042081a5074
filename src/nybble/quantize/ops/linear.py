"""Linear layers, and vectors times matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from nybble.graph import Linear
from nybble.quantize.fake.weighted import QuantizedLinear
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Unsupported, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, example
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, check_bias, constant_of, constants_behind, operand_of, tensor_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


@forms.aten("linear.default")
def _linear(shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None) -> Result:
    return vocabulary.dense(value_of(x), weight, bias)


@forms.aten("matmul.default", "mm.default")
def _matmul(shape: tuple[int, ...], x: Any, matrix: Any) -> Result:
    return vocabulary.matmul(x, matrix)


@forms.aten("addmm.default")
def _addmm(shape: tuple[int, ...], bias: Any, x: Any, matrix: Any, *, beta: float = 1, alpha: float = 1) -> Result:
    if not isinstance(bias, Tensor):
        raise Unsupported("biases of a linear layer are computed from the image; they must be constant")
    scaled = matrix * alpha if isinstance(matrix, Tensor) else matrix
    return vocabulary.matmul(x, scaled, (bias * beta).expand(shape[-1]) if bias.dim() < 2 else bias * beta)


def _check_bias(node: Any, inputs: Sequence[Value | None]) -> None:
    if len(arrays := constants_behind(inputs)) == 2:
        outputs = arrays[0].shape[0 if node.get("transB", 0) else 1]
        check_bias(arrays, outputs, (1, outputs))


@forms.onnx("Gemm", ranks={1: 2}, weight=1, check=_check_bias)
def _onnx_gemm(node: Any, x: Value, weight: Value, bias: Value | None = None) -> Result:
    x = value_of(x)
    if len(x.shape) != 1 or node.get("transA", 0):
        raise Unsupported("it must read vectors (N, C); flatten before")
    matrix = constant_of(weight, "weights") * np.float32(node.get("alpha", 1.0))
    if not node.get("transB", 0):
        matrix = matrix.T
    offset = None if bias is None else constant_of(bias, "biases") * np.float32(node.get("beta", 1.0))
    return vocabulary.dense(x, tensor_of(matrix), None if offset is None else tensor_of(offset))


@forms.onnx("MatMul", ranks={1: 2}, weight=1)
def _onnx_matmul(node: Any, x: Value, weight: Value) -> Result:
    return vocabulary.matmul(operand_of(x), operand_of(weight))


class LinearLayer(FloatOperation):
    """A linear layer, with the batch norm that was folded into it."""

    forms = forms
    ops = (float_network.Dense,)
    modules = (QuantizedLinear,)
    nodes = (Linear,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover two linear layers behind a flattened image."""
        yield example(
            "flattened",
            lambda: nn.Sequential(
                nn.Conv2d(3, 4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 5)
            ),
        )

    def prepare(self, op: float_network.Dense, preparation: Preparation) -> None:
        """Add a layer that reads codes and gives exact sums."""
        preparation.add_layer(op, QuantizedLinear)

    def convert(self, module: QuantizedLinear, step: Step, conversion: Conversion) -> None:
        """Add the codes of the weights, and biases in units of the sums."""
        conversion.append_layer(module, step, Linear)

    def restore(self, node: Linear, restoration: Restoration) -> None:
        """Restore the layer, with weights in the steps that follow from its sums."""
        restoration.append_layer(node, QuantizedLinear)


register(LinearLayer())
