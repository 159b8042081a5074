"""Batch norm with fixed statistics, which is folded into layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, constant_of, constants_behind, tensor_of
from nybble.quantize.ops.registry import register

forms = Forms()


@forms.aten("_native_batch_norm_legit_no_training.default")
def _batch_norm(
    shape: tuple[int, ...], x: Any, gain: Any, offset: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Result:
    return vocabulary.batch_norm(value_of(x), gain, offset, mean, variance, eps)


def _check_parameters(node: Any, inputs: Sequence[Value | None]) -> None:
    x, arrays = inputs[0], constants_behind(inputs)
    if not isinstance(x, Translation):
        return
    if any(array.shape != x.shape[:1] for array in arrays):
        raise Unsupported(f"its parameters are not of {x.shape[0]} channels")
    if len(arrays) == 4 and not bool((arrays[3] + node.get("epsilon", 1e-5) > 0).all()):
        raise Unsupported("its variance is not positive everywhere")


@forms.onnx("BatchNormalization", ranks={1: 1, 2: 1, 3: 1, 4: 1}, check=_check_parameters)
def _onnx_batch_norm(node: Any, x: Value, gain: Value, offset: Value, mean: Value, variance: Value) -> Result:
    if node.get("training_mode", 0):
        raise Unsupported("export the network in evaluation mode")
    scale, shift, middle, spread = (
        tensor_of(constant_of(value, "its parameters")) for value in (gain, offset, mean, variance)
    )
    return vocabulary.batch_norm(value_of(x), scale, shift, middle, spread, float(node.get("epsilon", 1e-5)))


def _norm() -> nn.Module:
    norm = nn.BatchNorm2d(6)
    for tensor, low, high in ((norm.weight, 0.5, 1.5), (norm.running_var, 0.3, 1.0), (norm.bias, -0.3, 0.3)):
        nn.init.uniform_(tensor, low, high)
    return norm


class BatchNorm(FloatOperation):
    """Folding removes all of them."""

    forms = forms

    def examples(self) -> Iterator[FloatExample]:
        """Cover a batch norm behind a layer, and a separate one behind a pool."""
        yield around("behind a layer", lambda: nn.Sequential(_norm(), nn.ReLU()))
        yield around("behind a pool", lambda: nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), _norm(), nn.ReLU()))


register(BatchNorm())
