"""Max pools, and maxima over rows and columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional

from nybble import graph
from nybble.graph import Padding, Pair
from nybble.quantize.fake.operation import FakeOperation
from nybble.quantize.ir import float_network, pooling, vocabulary
from nybble.quantize.ir.vocabulary import Result, Translation, value_of
from nybble.quantize.ops.aten_arguments import pair_of, sides_of
from nybble.quantize.ops.base import FloatOperation
from nybble.quantize.ops.examples import FloatExample, around
from nybble.quantize.ops.forms import Forms
from nybble.quantize.ops.onnx_arguments import Value, attribute_pair, axes_of, image_of, pool_of
from nybble.quantize.ops.registry import register

if TYPE_CHECKING:
    from nybble.quantize.fake.network import Step
    from nybble.quantize.lower.conversion import Conversion
    from nybble.quantize.ops.restoration import Restoration
    from nybble.quantize.prepare.preparation import Preparation

forms = Forms()


class MaxPool2d(FakeOperation):
    """The largest value of each window; padding never wins."""

    passes_factors = True

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair,
        padding: Padding = Padding(),
        dilation: Pair = Pair(1, 1),
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        if self.kernel_size == (1, 1) and not any(self.padding) and not self.ceil_mode:
            return x[:, :, :: self.stride.rows, :: self.stride.columns]
        window = self.kernel_size if self.dilation != (1, 1) else pooling.fitting(x, self.kernel_size, self.padding)
        return pooling.maxima(x, window, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def extra_repr(self) -> str:
        """The text that ``print`` shows."""
        return f"{tuple(self.kernel_size)}, stride={tuple(self.stride)}, padding={tuple(self.padding)}"


@forms.aten("max_pool2d.default", "max_pool2d_with_indices.default")
def _max_pool(
    shape: tuple[int, ...],
    x: Translation,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Result:
    window = pair_of(kernel_size)
    return vocabulary.max_pool(x, window, pair_of(stride or window), sides_of(padding), pair_of(dilation), ceil_mode)


@forms.aten("adaptive_max_pool2d.default")
def _adaptive_max(shape: tuple[int, ...], x: Translation, size: Sequence[int]) -> Result:
    return vocabulary.adaptive_pool(x, shape[1:], largest=True)


@forms.aten("amax.default")
def _amax(shape: tuple[int, ...], x: Translation, dim: Sequence[int] = (), keepdim: bool = False) -> Result:
    return vocabulary.largest(x, dim, keepdim)


@forms.aten("max.dim")
def _max_dim(shape: tuple[int, ...], x: Translation, dim: int, keepdim: bool = False) -> Result:
    return vocabulary.largest(x, [dim], keepdim)


@forms.onnx("MaxPool")
def _onnx_max_pool(node: Any, x: Value) -> Result:
    image, window, stride, padding = pool_of(node, x)
    ceil_mode = bool(node.get("ceil_mode", 0))
    return vocabulary.max_pool(image, window, stride, padding, attribute_pair(node, "dilations"), ceil_mode)


@forms.onnx("GlobalMaxPool")
def _onnx_global_maximum(node: Any, x: Value) -> Result:
    return vocabulary.largest(image_of(x), (2, 3), keepdim=True)


@forms.onnx("ReduceMax")
def _onnx_largest(node: Any, x: Value, axes: Value | None = None) -> Result:
    return vocabulary.largest(value_of(x), axes_of(node, axes), bool(node.get("keepdims", 1)))


class MaxPooling(FloatOperation):
    """The largest code of each window."""

    forms = forms
    ops = (float_network.MaxPool,)
    modules = (MaxPool2d,)
    nodes = (graph.MaxPool2d,)

    def examples(self) -> Iterator[FloatExample]:
        """Cover padding, and windows that run past the end."""
        yield around("padded", lambda: lambda x: functional.max_pool2d(functional.relu(x), 3, 2, 1))
        yield around("ceil mode", lambda: lambda x: functional.max_pool2d(x, 2, 2, ceil_mode=True))

    def prepare(self, op: float_network.MaxPool, preparation: Preparation) -> None:
        """The pool reads codes."""
        preparation.on_codes(op, MaxPool2d(op.kernel_size, op.stride, op.padding, op.dilation, op.ceil_mode))

    def convert(self, module: MaxPool2d, step: Step, conversion: Conversion) -> None:
        """The type and the unit stay the same."""
        conversion.append_pool(module, step, graph.MaxPool2d, dilation=module.dilation)

    def restore(self, node: graph.MaxPool2d, restoration: Restoration) -> None:
        """The quantizer of the input is kept."""
        restoration.quantizers[node.name] = restoration.quantizers[node.inputs[0]]
        pool = MaxPool2d(node.kernel_size, node.stride, node.padding, node.dilation, node.ceil_mode)
        restoration.append(node, pool, node.inputs[0])

    def copied_from(self, node: graph.MaxPool2d, restoration: Restoration) -> str | None:
        """Codes are not changed."""
        return node.inputs[0]


register(MaxPooling())
