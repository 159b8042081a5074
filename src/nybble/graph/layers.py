"""Nodes and their layer files: one reading and one writing function a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from nybble.graph.folder import DATA, ROOT, ModelFolder
from nybble.graph.infer import MAX_ELEMENTS, MAX_EXTENT, MAX_SHIFT, ValueType
from nybble.graph.lines import LayerFile, LayerText, joined
from nybble.graph.nodes import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Linear,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Quantize,
    ReLU,
    Scale,
)
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, DType

WEIGHTS = (DType.S4, DType.S8)
BIASES = (DType.S16, DType.S32)
FACTORS = (DType.U16, DType.U32)


def read_layer(folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    """Make the node that a layer file describes.

    Raises
    ------
    ModelFormatError
        On an unknown type, an unknown, missing or wrong key, or a tensor whose file is missing or of the
        wrong size. What depends on the input's shape is left to the graph.
    """
    reader = _READERS.get(file.kind)
    if reader is None:
        raise file.error(f"unknown layer type {file.kind[:40]!r} (known: {', '.join(sorted(_READERS))})")
    node = reader(folder, file, name, inputs)
    file.finish()
    return node


def check_declared_inputs(file: LayerFile, node: Node, values: Mapping[str, ValueType]) -> None:
    """Check the input types that an Add's or Scale's ``compute_mode`` declares against the graph's.

    The nodes themselves do not carry them. ``s32`` may stand for ``u31``, as everywhere. The Add inside a
    BottleneckQuantized has no file of its own and declares nothing.
    """
    if file.kind not in ("Add", "Scale"):
        return
    declared = file.mode(3)
    for source, said in zip(node.inputs, declared, strict=False):
        actual = values[source].dtype
        if said is not actual and not (said is DType.S32 and actual is DType.U31):
            raise file.error(f"is declared to read {said}, but {source} is {actual}", "compute_mode")


def _read_conv(folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, weight_type, _ = _sum_mode(file)
    reference = file.tensor("weight", WEIGHTS, 4)
    out_channels, per_group, *window = reference.shape
    groups = file.integer("groups", 1, MAX_EXTENT)
    _expect(file, "compute_mode", weight_type, reference.dtype, "the weight's type")
    _expect(file, "out_channels", file.integer("out_channels", 1, MAX_EXTENT), out_channels, "the weight's")
    _expect(file, "in_channels", file.integer("in_channels", 1, MAX_EXTENT), per_group * groups, "weight times groups:")
    kernel = file.pair("kernel_size")
    _expect(file, "kernel_size", tuple(kernel), tuple(window), "the weight's")
    return Conv2d(
        name=name,
        inputs=inputs,
        input_type=input_type,
        weight=folder.tensor(file, "weight", reference, reference.shape),
        bias=_read_vector(folder, file, "bias", BIASES, out_channels) if file.has("bias") else None,
        stride=file.pair("stride"),
        padding=file.padding("padding"),
        dilation=file.pair("dilation"),
        groups=groups,
    )


def _read_linear(folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, weight_type, _ = _sum_mode(file)
    reference = file.tensor("weight", WEIGHTS, 2)
    out_features, in_features = reference.shape
    _expect(file, "compute_mode", weight_type, reference.dtype, "the weight's type")
    _expect(file, "out_features", file.integer("out_features", 1, MAX_ELEMENTS), out_features, "the weight's")
    _expect(file, "in_features", file.integer("in_features", 1, MAX_ELEMENTS), in_features, "the weight's")
    return Linear(
        name=name,
        inputs=inputs,
        input_type=input_type,
        weight=folder.tensor(file, "weight", reference, reference.shape),
        bias=_read_vector(folder, file, "bias", BIASES, out_features) if file.has("bias") else None,
    )


def _read_relu(_: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, output_type = file.mode(2)
    _expect(file, "compute_mode", output_type, DType.U31, "the output of ReLU:")
    file.flag("inplace")
    maximum = file.integer("maximum", 0, SUM_LIMIT) if file.has("maximum") else None
    return ReLU(name=name, inputs=inputs, input_type=input_type, maximum=maximum)


def _read_quantize(folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, factor_type, output_type = file.mode(3)
    reference = file.tensor("requant_factor", FACTORS, 4)
    batch, channels, rows, columns = reference.shape
    _expect(file, "requant_factor", (batch, rows, columns), (1, 1, 1), "the shape 1 C 1 1:")
    _expect(file, "compute_mode", factor_type, reference.dtype, "the factor's type")
    bits = file.integer("output_bits", 1, 32)
    if output_type.is_float or bits != output_type.magnitude_bits:
        raise file.error(f"output_bits={bits} does not go with the output type {output_type}", "output_bits")
    factor = folder.tensor(file, "requant_factor", reference, (channels,))
    largest = file.integer("max_requant", 0, DType.U32.maximum)
    _expect(file, "max_requant", largest, int(factor.numpy().max()), "the largest factor")
    return Quantize(
        name=name,
        inputs=inputs,
        input_type=input_type,
        output_type=output_type,
        factor=factor,
        shift=file.integer("shift_bits", 0, MAX_SHIFT),
    )


def _read_max_pool(_: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, output_type = file.mode(2)
    _expect(file, "compute_mode", output_type, input_type, "the input's type")
    if file.flag("return_indices"):
        raise file.error("return_indices=True is not supported", "return_indices")
    return MaxPool2d(
        name=name,
        inputs=inputs,
        input_type=input_type,
        kernel_size=file.pair("kernel_size"),
        stride=file.pair("stride"),
        padding=file.padding("padding"),
        dilation=file.pair("dilation"),
        ceil_mode=file.flag("ceil_mode"),
    )


def _read_average_pool(_: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, output_type = file.mode(2)
    _expect(file, "compute_mode", output_type, input_type, "the input's type")
    return AvgPool2d(
        name=name,
        inputs=inputs,
        input_type=input_type,
        kernel_size=file.pair("kernel_size"),
        stride=file.pair("stride"),
        padding=file.padding("padding"),
        ceil_mode=file.flag("ceil_mode"),
        count_include_pad=file.flag("count_include_pad"),
    )


def _read_add(_: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    _expect(file, "compute_mode", file.mode(3)[2], DType.S32, "the output of Add:")
    return Add(name=name, inputs=inputs)


def _read_concat(_: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    input_type, output_type = file.mode(2)
    _expect(file, "compute_mode", output_type, input_type, "the inputs' type")
    return Concat(name=name, inputs=inputs, input_type=input_type)


def _read_scale(folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Node:
    _expect(file, "compute_mode", file.mode(3)[1:], (DType.F32, DType.F32), "parameter and output:")
    reference = file.tensor("out_scale", (DType.F32,), 1)
    return Scale(name=name, inputs=inputs, out_scale=folder.tensor(file, "out_scale", reference, reference.shape))


_READERS: dict[str, Callable[[ModelFolder, LayerFile, str, tuple[str, ...]], Node]] = {
    "Add": _read_add,
    "AvgPool2d": _read_average_pool,
    "Concat": _read_concat,
    "Conv2d": _read_conv,
    "Linear": _read_linear,
    "MaxPool2d": _read_max_pool,
    "Quantize": _read_quantize,
    "ReLU": _read_relu,
    "Scale": _read_scale,
}


def _sum_mode(file: LayerFile) -> tuple[DType, ...]:
    modes = file.mode(3)
    _expect(file, "compute_mode", modes[2], DType.S32, f"the output of {file.kind}:")
    return modes


def _read_vector(folder: ModelFolder, file: LayerFile, key: str, dtypes: tuple[DType, ...], count: int) -> Tensor:
    reference = file.tensor(key, dtypes, 1)
    _expect(file, key, reference.shape[0], count, "as many as outputs:")
    return folder.tensor(file, key, reference, reference.shape)


def _expect(file: LayerFile, key: str, found: object, expected: object, why: str) -> None:
    if found != expected:
        raise file.error(f"{key} says {_plain(found)}, but must be {why} {_plain(expected)}", key)


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass
class LayerOutput:
    """What one node becomes on disk: its text and its tensors by path inside ``model/``."""

    file_name: str
    text: LayerText
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def add_tensor(self, key: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        """Append a tensor's lines and remember its data file."""
        path = f"{DATA}/{self.file_name}.{key}"
        self.text.add_tensor(key, tensor.dtype, shape, f"{ROOT}/{path}")
        self.tensors[path] = tensor


def write_layer(node: Node, file_name: str, values: Mapping[str, ValueType]) -> LayerOutput:
    """Text and tensors of a node; ``values`` are the graph's."""
    output = LayerOutput(file_name, LayerText(node.op))
    _write(node, output, [values[name].dtype for name in node.inputs])
    return output


@singledispatch
def _write(node: Node, output: LayerOutput, sources: list[DType]) -> None:
    raise NotImplementedError(f"{node.op} has no form on disk")


@_write.register
def _(node: Conv2d, output: LayerOutput, sources: list[DType]) -> None:
    text = output.text
    text.add("compute_mode", f"{node.input_type}{node.weight.dtype}{DType.S32}")
    text.add("in_channels", node.in_channels)
    text.add("out_channels", node.out_channels)
    text.add("kernel_size", joined(node.kernel_size))
    text.add("stride", joined(node.stride))
    text.add("padding", joined(node.padding[:2] if node.padding.is_symmetric else node.padding))
    text.add("dilation", joined(node.dilation))
    text.add("groups", node.groups)
    _write_weights(node, output)


@_write.register
def _(node: Linear, output: LayerOutput, sources: list[DType]) -> None:
    output.text.add("compute_mode", f"{node.input_type}{node.weight.dtype}{DType.S32}")
    output.text.add("in_features", node.weight.shape[1])
    output.text.add("out_features", node.weight.shape[0])
    _write_weights(node, output)


@_write.register
def _(node: ReLU, output: LayerOutput, sources: list[DType]) -> None:
    output.text.add("compute_mode", f"{node.input_type}{DType.U31}")
    output.text.add("inplace", True)
    if node.maximum is not None:
        output.text.add("maximum", node.maximum)


@_write.register
def _(node: Quantize, output: LayerOutput, sources: list[DType]) -> None:
    text = output.text
    text.add("compute_mode", f"{node.input_type}{node.factor.dtype}{node.output_type}")
    text.add("output_bits", node.output_type.magnitude_bits)
    text.add("shift_bits", node.shift)
    text.add("max_requant", int(node.factor.numpy().max()))
    output.add_tensor("requant_factor", node.factor, (1, *node.factor.shape, 1, 1))


@_write.register
def _(node: MaxPool2d, output: LayerOutput, sources: list[DType]) -> None:
    text = output.text
    text.add("compute_mode", f"{node.input_type}{node.input_type}")
    text.add("kernel_size", _square(node.kernel_size))
    text.add("stride", _square(node.stride))
    text.add("padding", _sides(node.padding))
    text.add("dilation", _square(node.dilation))
    text.add("return_indices", False)
    text.add("ceil_mode", node.ceil_mode)


@_write.register
def _(node: AvgPool2d, output: LayerOutput, sources: list[DType]) -> None:
    text = output.text
    text.add("compute_mode", f"{node.input_type}{node.input_type}")
    text.add("kernel_size", _square(node.kernel_size))
    text.add("stride", _square(node.stride))
    text.add("padding", _sides(node.padding))
    text.add("ceil_mode", node.ceil_mode)
    text.add("count_include_pad", node.count_include_pad)


@_write.register
def _(node: Add, output: LayerOutput, sources: list[DType]) -> None:
    output.text.add("compute_mode", f"{''.join(sources)}{DType.S32}")


@_write.register
def _(node: Concat, output: LayerOutput, sources: list[DType]) -> None:
    output.text.add("compute_mode", f"{node.input_type}{node.input_type}")


@_write.register
def _(node: Scale, output: LayerOutput, sources: list[DType]) -> None:
    output.text.add("compute_mode", f"{sources[0]}{DType.F32}{DType.F32}")
    output.add_tensor("out_scale", node.out_scale, node.out_scale.shape)


def _write_weights(node: Conv2d | Linear, output: LayerOutput) -> None:
    if node.bias is not None:
        output.add_tensor("bias", node.bias, node.bias.shape)
    output.add_tensor("weight", node.weight, node.weight.shape)


def _square(pair: Pair) -> str:
    return str(pair.rows) if pair.rows == pair.columns else joined(pair)


def _sides(padding: Padding) -> str:
    if not padding.is_symmetric:
        return joined(padding)
    return _square(Pair(padding.top, padding.left))
