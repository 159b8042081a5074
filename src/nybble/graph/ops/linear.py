"""Linear layer: 32-bit sums of products of codes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type
from nybble.graph.ops.examples import activation, drawn
from nybble.graph.ops.forms import ExactForm, Form, RealForm, write_exact_sums
from nybble.graph.ops.registry import register
from nybble.graph.ops.units import Unit, converted_bias, wider_weights
from nybble.graph.ops.weights import (
    WEIGHTS,
    bias_values,
    check_weight,
    exact_float,
    largest_sum,
    read_bias,
    read_sum_mode,
    write_weights,
)
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import MAX_ELEMENTS, ValueType

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(Node):
    """Exact integer matrix product plus bias. ``weight`` is (out, in); a (C, H, W) input is read flat."""

    input_type: DType
    weight: Tensor
    bias: Tensor | None = None


class LinearOperation(Operation[Linear]):
    """Linear layer."""

    node = Linear
    unit = Unit.WEIGHTED

    def infer(self, node: Linear, inputs: Sequence[ValueType]) -> ValueType:
        """The result is sums in s32; their magnitude is computed from the weights."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        check_weight(node, node.weight, 2)
        features = math.prod(source.shape)
        if node.weight.shape[1] != features:
            raise GraphError(
                f"takes {node.weight.shape[1]} features, but {node.inputs[0]} has {features}",
                node=node.name,
                field="weight",
            )
        magnitude = largest_sum(node, node.weight, node.bias, source)
        return ValueType(DType.S32, (node.weight.shape[0],), magnitude)

    def compute(self, node: Linear, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """One matrix product, in floats in which it is exact."""
        (features,) = values
        weight = node.weight.numpy()
        number = exact_float(types[0], weight)
        flat = features.reshape(len(features), weight.shape[1]).astype(number)
        sums = np.matmul(flat, weight.astype(number).T)
        result: Array = sums.astype(np.int32) + bias_values(node.bias, len(weight))
        return result

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Linear:
        """Features are given twice, in their own lines and by the weight's shape, and must agree."""
        input_type, weight_type, _ = read_sum_mode(file)
        reference = file.tensor("weight", WEIGHTS, 2)
        out_features, in_features = reference.shape
        file.expect("compute_mode", weight_type, reference.dtype, "the weight's type")
        file.expect("out_features", file.integer("out_features", 1, MAX_ELEMENTS), out_features, "the weight's")
        file.expect("in_features", file.integer("in_features", 1, MAX_ELEMENTS), in_features, "the weight's")
        return Linear(
            name=name,
            inputs=inputs,
            input_type=input_type,
            weight=folder.tensor(file, "weight", reference, reference.shape),
            bias=read_bias(folder, file, out_features),
        )

    def write(self, node: Linear, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the lines that the published directory has."""
        output.text.add("compute_mode", f"{node.input_type}{node.weight.dtype}{DType.S32}")
        output.text.add("in_features", node.weight.shape[1])
        output.text.add("out_features", node.weight.shape[0])
        write_weights(node.weight, node.bias, output)

    def converted(self, node: Linear, input_type: DType | None, ratio: Fraction) -> Linear:
        """Weights stay the same; biases are rounded once."""
        return replace(
            node,
            input_type=input_type or node.input_type,
            weight=wider_weights(node.weight),
            bias=converted_bias(node.bias, ratio, node.name),
        )

    def macs(self, node: Linear, result: ValueType) -> int:
        """One for each weight of its filter, for each element of the result."""
        return math.prod(result.shape) * math.prod(node.weight.shape[1:])

    def weighted(self, node: Linear) -> Linear:
        """The node."""
        return node

    def write_exact(self, node: Linear, form: ExactForm) -> None:
        """Written as Gemm, or as several if float32 does not hold the sums."""

        def product(inputs: list[str], output: str) -> str:
            return form.node("Gemm", inputs, output, transB=1)

        write_exact_sums(form, node, _flat(node, form), product)

    def write_real(self, node: Linear, form: RealForm) -> None:
        """Written as Gemm."""
        source = _flat(node, form)
        weights = form.weights(node, transpose=form.transposed)
        form.node("Gemm", [source, *weights], node.name, transB=int(not form.transposed))

    def onnx_hint(self, node: Linear) -> Mapping[str, object]:
        """Keep the type of the bias, which ONNX has in 32 bits."""
        return {} if node.bias is None else {"bias": node.bias.dtype}

    def examples(self, random: np.random.Generator) -> Iterator[Example[Linear]]:
        """Cover every type of input and weight, of vectors and of images, with and without bias."""
        for input_type in ACTIVATIONS:
            for weight_type in WEIGHTS:
                weight = drawn(random, weight_type, 4, 12)
                node = Linear(name="linear", inputs=("x",), input_type=input_type, weight=weight)
                yield Example(node, (activation(input_type, 3, 2, 2),))
        for bias_type in (DType.S16, DType.S32):
            node = Linear(
                name="linear",
                inputs=("x",),
                input_type=DType.S8,
                weight=drawn(random, DType.S4, 3, 5),
                bias=Tensor.from_array(bias_type, random.integers(-3000, 3000, 3)),
            )
            yield Example(node, (activation(DType.S8, 5),))


def _flat(node: Linear, form: Form) -> str:
    source = form.source(node.inputs[0])
    if len(form.values[node.inputs[0]].shape) == 1:
        return source
    return form.node("Flatten", [source], f"{node.name}/flat", axis=1)


register(LinearOperation())
