"""Average pools, and means and sums over rows and columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from nybble import graph
from nybble.graph import Padding, Pair
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.fake.quantizers import ActivationQuantizer
from nybble.quantize.ir import float_network, pooling, vocabulary
from nybble.quantize.ir.vocabulary import Result, Stack, Translation, Unsupported, value_of
from nybble.quantize.ops.aten_arguments import check_type, pair_of, sides_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, attribute_pair, axes_of, extents_of, image_of, pool_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class AvgPool2d(FakeOperation):
    """The average of each window, in mode ``quantize`` rounded to whole steps as the integer network does: half up.

    An ``exact`` one makes logits: the integer network sums its windows up, and nothing is rounded.
    """

    passes_factors = True

    def __init__(
        self,
        quantizer: ActivationQuantizer,
        kernel_size: Pair,
        stride: Pair,
        padding: Padding = Padding(),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.exact = exact
        # In a tuple, so that it is not registered twice: the network owns it.
        self._reads = (quantizer,)

    @property
    def quantizer(self) -> ActivationQuantizer:
        """The quantizer whose codes are averaged."""
        return self._reads[0]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        window = pooling.fitting(x, self.kernel_size, self.padding)
        y = pooling.averages(
            x,
            window,
            self.stride,
            self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )
        if self.mode != "quantize" or self.exact:
            return y
        step = self.quantizer.step()
        with torch.no_grad():
            # Averages of codes are multiples of 1 / window: float32 errors must not pull a half below, and what is
            # next below a half must stay there.
            slack = min(1e-4, 0.25 / (window.rows * window.columns))
            rounded = torch.floor(y / step + (0.5 + slack)) * step
        return y + (rounded - y).detach()

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"{tuple(self.kernel_size)}, stride={tuple(self.stride)}"


@forms.aten("avg_pool2d.default")
def _avg_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Result:
    if divisor_override is not None:
        raise Unsupported("an average pool with divisor_override has no integer form; multiply by a constant instead")
    window = pair_of(kernel_size)
    return vocabulary.average_pool(
        x, window, pair_of(stride or window), sides_of(padding), ceil_mode, count_include_pad
    )


@forms.aten("adaptive_avg_pool2d.default", "_adaptive_avg_pool2d.default")
def _adaptive(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return vocabulary.adaptive_pool(x, shape[1:])


@forms.aten("mean.dim", stacks=True)
def _mean(
    shape: tuple[int, ...],
    x: Translation | Stack,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Result:
    check_type(dtype)
    return vocabulary.mean(x, dim, keepdim)


@forms.aten("sum.dim_IntList", stacks=True)
def _sum(
    shape: tuple[int, ...],
    x: Translation | Stack,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Result:
    check_type(dtype)
    return vocabulary.total(x, dim, keepdim)


@forms.onnx("AveragePool")
def _onnx_average_pool(node: Any, x: Value) -> Result:
    image, window, stride, padding = pool_of(node, x)
    counted = bool(node.get("count_include_pad", 0)) or not any(padding)
    if any(extent != 1 for extent in attribute_pair(node, "dilations")):
        raise Unsupported("averages of windows with holes have no counterpart")
    down, up = (extents_of(image, window, stride, padding, Pair(1, 1), mode) for mode in (False, True))
    ceil_mode = bool(node.get("ceil_mode", 0))
    if ceil_mode and down != up:
        raise Unsupported("runtimes disagree about averages in ceil mode; export it with ceil_mode=0")
    return vocabulary.average_pool(image, window, stride, padding, ceil_mode, counted)


@forms.onnx("GlobalAveragePool")
def _onnx_global_average(node: Any, x: Value) -> Result:
    return vocabulary.mean(image_of(x), (2, 3), keepdim=True)


@forms.onnx("ReduceMean", integers=(1,), stacks=True)
def _onnx_mean(node: Any, x: Value, axes: Value | None = None) -> Result:
    return vocabulary.mean(_summand(x), axes_of(node, axes), bool(node.get("keepdims", 1)))


@forms.onnx("ReduceSum", stacks=True)
def _onnx_total(node: Any, x: Value, axes: Value | None = None) -> Result:
    return vocabulary.total(_summand(x), axes_of(node, axes), bool(node.get("keepdims", 1)))


def _summand(x: Value) -> Translation | Stack:
    return x if isinstance(x, Stack) else value_of(x)


class AveragePooling(FloatOperation):
    """The average of each window, rounded to a code; at the end of a network, exact."""

    forms = forms
    ops = (float_network.AvgPool,)
    modules = (AvgPool2d,)
    nodes = (graph.AvgPool2d,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover padding that counts and padding that does not."""
        for counted in (False, True):
            pool = nn.AvgPool2d(3, 2, 1, count_include_pad=counted)
            yield around(f"padding counted: {counted}", lambda pool=pool: nn.Sequential(nn.ReLU(), pool))  # type: ignore[misc]

    def prepare(self, op: float_network.AvgPool, preparation: Preparation) -> None:
        """The pool reads codes. A pool that makes the logits gives exact sums."""
        source, quantizer = preparation.coded(op.inputs[0])
        exact = op.name == preparation.network.output and not any(op.padding) and not op.ceil_mode
        pool = AvgPool2d(
            quantizer, op.kernel_size, op.stride, op.padding, op.ceil_mode, op.count_include_pad, exact=exact
        )
        step = preparation.step(op.name, pool, source)
        if exact:
            preparation.sums[op.name] = step
        else:
            preparation.codes[op.name] = (step, quantizer)

    def convert(self, module: AvgPool2d, step: Step, conversion: Conversion) -> None:
        """Type and unit stay the same, unless it is exact: then a convolution sums each channel's windows."""
        if not module.exact:
            conversion.append_pool(module, step, graph.AvgPool2d, count_include_pad=module.count_include_pad)
            return
        reads = conversion.type_of(step.inputs[0])
        weight = np.ones((reads.shape[0], 1, *module.kernel_size), np.int8)
        count = module.kernel_size.rows * module.kernel_size.columns
        conversion.units[step.name] = np.full(len(weight), float(conversion.units[step.inputs[0]]) / count)
        conversion.append(
            step,
            graph.Conv2d,
            input_type=reads.dtype,
            weight=graph.Tensor.from_array(graph.DType.S4, weight),
            stride=module.stride,
            groups=len(weight),
        )

    def restore(self, node: graph.AvgPool2d, restoration: Restoration) -> None:
        """The quantizer of the input is kept."""
        quantizer = restoration.quantizers[node.name] = restoration.quantizers[node.inputs[0]]
        pool = AvgPool2d(quantizer, node.kernel_size, node.stride, node.padding, node.ceil_mode, node.count_include_pad)
        restoration.append(node, pool, node.inputs[0])

    def copied_from(self, node: graph.AvgPool2d, restoration: Restoration) -> str | None:
        """Averages have the same step as the input."""
        return node.inputs[0]


register(AveragePooling())
