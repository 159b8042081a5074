"""ReLU, and limits such as that of ReLU6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.graph.types import Array
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.ir import float_network, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, Unsupported, value_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, constant_of, tensor_of
from nybble.quantize.ops.registry import operation_of_node, register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class ReLU(FakeOperation):
    """``max(0, x)``, and ``min(maximum, .)`` where a maximum is given (6 for ReLU6).

    Attributes
    ----------
    maximum : float or None
    divisor : Tensor or None
        (C,): what channels were divided by, and the maximum with them (:func:`nybble.quantize.fit_channels`).
    """

    keeps_unit = True
    passes_factors = True
    divisor: Tensor | None

    def __init__(self, maximum: float | None = None) -> None:
        super().__init__()
        self.maximum = maximum
        self.register_buffer("divisor", None)
        # In a tuple, so that it is not registered twice: the network owns it.
        self._behind: tuple[ActivationQuantizer, ...] = ()

    def precede(self, quantizer: ActivationQuantizer) -> None:
        """Say that an unsigned quantizer is all that reads the result: it clips at 0, and no later than this does."""
        self._behind = (quantizer,)

    @property
    def is_absorbed(self) -> bool:
        """Whether the quantizer behind does the clipping as well, which saves training two passes over memory."""
        return (
            bool(self._behind)
            and self.training
            and all(q.mode == "quantize" and q.observer is None for q in self._behind)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; (N, C, ...) where channels were divided."""
        if self.is_absorbed:
            return x
        if self.divisor is not None and self.maximum is not None:
            maxima = (self.maximum / self.divisor).reshape(-1, *[1] * (x.dim() - 2))
            return torch.minimum(functional.relu(x), maxima)
        # hardtanh rather than clamp: its gradient takes one pass over memory instead of four.
        return functional.relu(x) if self.maximum is None else functional.hardtanh(x, 0.0, self.maximum)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return "" if self.maximum is None else f"maximum={self.maximum}"


@forms.aten("relu.default")
def _relu(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.clip(x, 0.0, None)


@forms.aten("relu6.default")
def _relu6(shape: tuple[int, ...], x: Translation) -> Result:
    return vocabulary.clip(x, 0.0, 6.0)


@forms.aten("hardtanh.default")
def _hardtanh(shape: tuple[int, ...], x: Translation, min_val: float = -1.0, max_val: float = 1.0) -> Result:
    return vocabulary.clip(x, min_val, max_val)


# Arguments are called as ATen calls them.
@forms.aten("clamp.default", "clamp.Tensor", "clip.default", "clip.Tensor")
def _clamp(shape: tuple[int, ...], x: Any, min: Any = None, max: Any = None) -> Result:  # noqa: A002
    low, high = (None if bound is None else _bound(bound) for bound in (min, max))
    return vocabulary.clip(value_of(x), low, high)


@forms.aten("clamp_min.default", "clamp_min.Tensor")
def _clamp_min(shape: tuple[int, ...], x: Any, min: Any) -> Result:  # noqa: A002
    return vocabulary.clip(value_of(x), _bound(min), None)


@forms.aten("clamp_max.default", "clamp_max.Tensor")
def _clamp_max(shape: tuple[int, ...], x: Any, max: Any) -> Result:  # noqa: A002
    return vocabulary.clip(value_of(x), None, _bound(max))


@forms.aten("maximum.default", "max.other", "fmax.default")
def _maximum(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    if isinstance(left, Translation) and isinstance(right, Translation):
        return vocabulary.larger(left, right)
    x, bound = _with_bound(left, right, shape)
    return vocabulary.clip(x, bound, None)


@forms.aten("minimum.default", "min.other", "fmin.default")
def _minimum(shape: tuple[int, ...], left: Any, right: Any) -> Result:
    if isinstance(left, Translation) and isinstance(right, Translation):
        return vocabulary.smaller(left, right)
    x, bound = _with_bound(left, right, shape)
    return vocabulary.clip(x, None, bound)


def _with_bound(left: Any, right: Any, shape: tuple[int, ...]) -> tuple[Translation, float]:
    x, bound = (left, right) if isinstance(left, Translation) else (right, left)
    if x.shape != shape:
        raise Unsupported("a limit must not enlarge what it limits")
    return x, vocabulary.bound_of(bound)


def _bound(value: Any) -> float:
    if isinstance(value, Translation):
        raise Unsupported("a limit is computed from the image; it must be constant")
    return vocabulary.bound_of(value)


@forms.aten("threshold.default")
def _threshold(shape: tuple[int, ...], x: Translation, threshold: float, value: float) -> Result:
    if threshold != 0 or value != 0:
        raise Unsupported(
            f"a threshold at {threshold} with {value} has no integer form; only one at 0 with 0 (ReLU) has"
        )
    return vocabulary.clip(x, 0.0, None)


@forms.onnx("Relu")
def _onnx_relu(node: Any, x: Value) -> Result:
    return vocabulary.clip(value_of(x), 0.0, None)


@forms.onnx("Clip", numbers=(1, 2))
def _onnx_clip(node: Any, x: Value, low: Value | None = None, high: Value | None = None) -> Result:
    least, most = (
        float(constant_of(value, "its bounds").reshape(-1)[0]) if value is not None else node.get(name)
        for value, name in ((low, "min"), (high, "max"))
    )
    return vocabulary.clip(value_of(x), least, most)


@forms.onnx("Max", "Min")
def _onnx_limit(node: Any, *values: Value) -> Result:
    found = [value_of(value) for value in values if not isinstance(value, np.ndarray)]
    bounds = [vocabulary.bound_of(tensor_of(value)) for value in values if isinstance(value, np.ndarray)]
    if len(found) == 2 and not bounds:
        return vocabulary.larger(*found) if node.op == "Max" else vocabulary.smaller(*found)
    if len(found) != 1:
        raise Unsupported("it must compare two values, or one with constants")
    (x,) = found
    if any(isinstance(value, np.ndarray) and value.ndim > len(x.shape) + 1 for value in values):
        raise Unsupported("a limit must not enlarge what it limits")
    if node.op == "Max":
        return vocabulary.clip(x, max(bounds, default=None), None)
    return vocabulary.clip(x, None, min(bounds, default=None))


class Rectification(FloatOperation):
    """ReLU, behind a layer or an addition; where it has a maximum, the quantizer behind it clips there."""

    forms = forms
    ops = (float_network.Rectifier,)
    modules = (ReLU,)
    nodes = (graph.ReLU,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover a ReLU with and without a maximum."""
        yield around("relu", lambda: torch.relu)
        yield around("relu6", lambda: functional.relu6)
        for name, select in (("larger", torch.maximum), ("smaller", torch.minimum)):
            yield around(name, lambda select=select: lambda x: select(x, functional.max_pool2d(-x, 3, 1, 1)))  # type: ignore[misc]
        yield around("hardtanh", lambda: lambda x: functional.hardtanh(x, 0.0, 0.5))

    def prepare(self, op: float_network.Rectifier, preparation: Preparation) -> None:
        """The ReLU reads exact sums."""
        source = op.inputs[0]
        name = f"{preparation.base(source)}.relu"
        preparation.sums[op.name] = preparation.step(name, ReLU(op.maximum), preparation.sums[source])
        if source in preparation.owners:
            preparation.owners[op.name] = preparation.owners[source]

    def convert(self, module: ReLU, step: Step, conversion: Conversion) -> None:
        """Values above the maximum are clipped by the quantizer behind, if not before."""
        conversion.units[step.name] = conversion.units[step.inputs[0]]
        conversion.append(step, graph.ReLU, input_type=conversion.type_of(step.inputs[0]).dtype)

    def restore(self, node: graph.ReLU, restoration: Restoration) -> None:
        """A ReLU that clips sums has no counterpart."""
        if node.maximum is not None and node.maximum < restoration.graph.values[node.inputs[0]].magnitude:
            raise QuantizeError(f"{node.name}: a ReLU that clips sums cannot be restored; let its Quantize clip")
        restoration.append(node, ReLU(), node.inputs[0])
        restoration.inherit(node)

    def unit_of_sums(self, node: graph.ReLU, restoration: Restoration) -> Array | None:
        """The unit of the ReLU's own result."""
        return restoration.unit_from_readers(node.name)

    def main_input(self, node: graph.ReLU, restoration: Restoration) -> str | None:
        """The only input."""
        return node.inputs[0]

    def scale_behind(self, node: graph.ReLU, rounding: graph.Quantize, restoration: Restoration) -> float | None:
        """The rounding behind the ReLU decides the scale, as for its input."""
        source = restoration.nodes[node.inputs[0]]
        return operation_of_node(source).scale_behind(source, rounding, restoration)


register(Rectification())
