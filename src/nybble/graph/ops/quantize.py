"""Requantization: from one integer unit to another, by a factor per channel and a shift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type
from nybble.graph.ops.examples import activation, drawn, sums
from nybble.graph.ops.forms import EXACT, ExactForm, RealForm
from nybble.graph.ops.registry import register
from nybble.graph.ops.units import Unit
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, SUMS, Array, DType
from nybble.graph.value_type import MAX_SHIFT, ValueType

FACTORS = (DType.U16, DType.U32)

#: Elements requantized at a time: their 64-bit products stay in a core's second-level cache.
_QUANTIZE_ELEMENTS = 1 << 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantize(Node):
    """Requantize: ``v = x * factor[channel]``, ``sign(v) * ((|v| + 2**(shift-1)) >> shift)``, clamped.

    Shift 0 leaves ``v`` as it is. ``factor`` is (channels), u16 or u32; ties go away from zero.
    """

    input_type: DType
    output_type: DType
    factor: Tensor
    shift: int


class QuantizeOperation(Operation[Quantize]):
    """Requantization."""

    node = Quantize
    unit = Unit.OWN

    def infer(self, node: Quantize, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the declared type. Activations are clamped to it; sums must not exceed the general limit."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, (*ACTIVATIONS, *SUMS))
        if node.output_type not in (*ACTIVATIONS, *SUMS):
            raise GraphError(f"cannot quantize to {node.output_type}", node=node.name, field="compute_mode")
        if not 0 <= node.shift <= MAX_SHIFT:
            raise GraphError(f"shift {node.shift} is not in 0..{MAX_SHIFT}", node=node.name, field="shift_bits")
        if node.factor.dtype not in FACTORS:
            raise GraphError(f"factors cannot be {node.factor.dtype}", node=node.name, field="requant_factor")
        if node.factor.shape != source.shape[:1]:
            raise GraphError(
                f"has {node.factor.size} factors, but {node.inputs[0]} has {source.shape[0]} channels",
                node=node.name,
                field="requant_factor",
            )
        half = (1 << node.shift) >> 1
        magnitude = (source.magnitude * int(node.factor.numpy().max()) + half) >> node.shift
        if node.output_type in ACTIVATIONS:
            magnitude = min(magnitude, node.output_type.magnitude)
        return ValueType(node.output_type, source.shape, magnitude)

    def compute(self, node: Quantize, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes the formula of the node in 64 bits."""
        (source,) = values
        # Every product fits 64 bits with its rounding term: (2**31 - 1) * (2**32 - 1) + 2**30 < 2**63.
        factor = node.factor.numpy().astype(np.int64)[:, None]
        half = (1 << node.shift) >> 1
        target = node.output_type
        channels = source.shape[1]
        flat = source.reshape(len(source), channels, int(np.prod(source.shape[2:])))
        result = np.empty(flat.shape, target.storage)
        block = max(1, _QUANTIZE_ELEMENTS // flat.shape[2])
        for image, quantized in zip(flat, result, strict=True):
            for first in range(0, channels, block):
                some = slice(first, first + block)
                product = image[some] * factor[some]
                magnitude = (np.abs(product) + half) >> node.shift
                rounded = np.negative(magnitude, out=magnitude, where=product < 0)
                quantized[some] = np.clip(rounded, target.minimum, target.maximum)
        return result.reshape(source.shape)

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Quantize:
        """``output_bits`` and ``max_requant`` repeat what other lines say, and must agree with them."""
        input_type, factor_type, output_type = file.mode(3)
        reference = file.tensor("requant_factor", FACTORS, 4)
        batch, channels, rows, columns = reference.shape
        file.expect("requant_factor", (batch, rows, columns), (1, 1, 1), "the shape 1 C 1 1:")
        file.expect("compute_mode", factor_type, reference.dtype, "the factor's type")
        bits = file.integer("output_bits", 1, 32)
        if output_type.is_float or bits != output_type.magnitude_bits:
            raise file.error(f"output_bits={bits} does not go with the output type {output_type}", "output_bits")
        factor = folder.tensor(file, "requant_factor", reference, (channels,))
        largest = file.integer("max_requant", 0, DType.U32.maximum)
        file.expect("max_requant", largest, int(factor.numpy().max()), "the largest factor")
        return Quantize(
            name=name,
            inputs=inputs,
            input_type=input_type,
            output_type=output_type,
            factor=factor,
            shift=file.integer("shift_bits", 0, MAX_SHIFT),
        )

    def write(self, node: Quantize, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the lines that the published directory has; there the factor has the shape (1, channels, 1, 1)."""
        text = output.text
        text.add("compute_mode", f"{node.input_type}{node.factor.dtype}{node.output_type}")
        text.add("output_bits", node.output_type.magnitude_bits)
        text.add("shift_bits", node.shift)
        text.add("max_requant", int(node.factor.numpy().max()))
        output.add_tensor("requant_factor", node.factor, (1, *node.factor.shape, 1, 1))

    def narrowed(self, node: Quantize, dtype: DType) -> Quantize:
        """The new type clips the result."""
        return replace(node, output_type=dtype)

    def requantization(self, node: Quantize) -> Quantize:
        """The node."""
        return node

    def write_exact(self, node: Quantize, form: ExactForm) -> None:
        """Computed in float32 if it holds all products that matter, else in int64."""
        source, target = form.values[node.inputs[0]], node.output_type
        largest = int(node.factor.numpy().max())
        half = (1 << node.shift) >> 1
        if target in ACTIVATIONS:
            # Larger products are clipped, whatever float32 makes of them.
            is_exact = target.magnitude_bits + node.shift <= 24 and largest <= EXACT
            why = f"output_bits {target.magnitude_bits} + shift {node.shift} pass 24"
        else:
            is_exact = source.magnitude * largest + half <= EXACT
            why = f"products reach {source.magnitude * largest}"
        if largest > EXACT:
            why = f"factors reach {largest}"
        if not form.is_float[node.inputs[0]]:
            is_exact, why = False, f"it reads sums up to {source.magnitude}"
        if is_exact:
            _write_float32(node, form)
        else:
            form.report_wide(node.name, f"{why}: int64")
            _write_int64(node, form)

    def write_real(self, node: Quantize, form: RealForm) -> None:
        """Written as the form rounds."""
        form.requantize(node)

    def onnx_hint(self, node: Quantize) -> Mapping[str, object]:
        """Keep the shift and the types; factors follow from scales."""
        return {"shift": node.shift, "factor": node.factor.dtype, "output": node.output_type}

    def details(self, node: Quantize) -> Sequence[str]:
        """Show the shift."""
        return (f"shift {node.shift}",)

    def examples(self, random: np.random.Generator) -> Iterator[Example[Quantize]]:
        """Cover every pair of types, with ties, clips and shift 0."""
        for input_type in (*ACTIVATIONS, *SUMS):
            source = sums(input_type, 3, 2, 5) if input_type in SUMS else activation(input_type, 3, 2, 5)
            for output_type in (*ACTIVATIONS, *SUMS):
                for factor_type, shift in ((DType.U16, 0), (DType.U16, 9), (DType.U32, MAX_SHIFT)):
                    node = Quantize(
                        name="quantize",
                        inputs=("x",),
                        input_type=input_type,
                        output_type=output_type,
                        factor=drawn(random, factor_type, 3, low=0),
                        shift=shift,
                    )
                    yield Example(node, (source,))
        halves = Tensor.from_array(DType.U16, np.ones(6, np.uint16))
        node = Quantize(
            name="quantize", inputs=("x",), input_type=DType.S32, output_type=DType.S4, factor=halves, shift=1
        )
        yield Example(node, (sums(DType.S32, 6, magnitude=20),))


def _write_float32(node: Quantize, form: ExactForm) -> None:
    source, target = form.source(node.inputs[0]), node.output_type
    reads_signed = form.values[node.inputs[0]].dtype.is_signed
    if not target.is_signed and reads_signed:
        # All below 0 is clipped anyway; and a runtime may not merge the Mul with the convolution before it.
        source = form.node("Relu", [source], f"{node.name}/raised")
    signed = target.is_signed and reads_signed
    sign = form.node("Sign", [source], f"{node.name}/sign") if signed else ""
    size = form.node("Abs", [source], f"{node.name}/size") if signed else source
    factor = node.factor.numpy() / np.float64(1 << node.shift)
    factors = form.channels(f"{node.name}/factor", factor, node.name)
    value = form.node("Mul", [size, factors], f"{node.name}/product")
    if node.shift:
        # One constant for all, unless a graph value has its name.
        label = "half" if "half" not in form.values else f"{node.name}/one_half"
        value = form.node("Add", [value, form.constant(label, 0.5)], f"{node.name}/half")
        value = form.node("Floor", [value], f"{node.name}/floor")
    if signed:
        value = form.node("Mul", [value, sign], f"{node.name}/rounded")
    result = form.source(node.name)
    if target in ACTIVATIONS:
        form.clip(value, target.minimum, target.maximum, np.float32, result)
    else:
        form.node("Identity", [value], result)
    form.is_float[node.name] = True


def _write_int64(node: Quantize, form: ExactForm) -> None:
    target = node.output_type
    source = form.converted(node.inputs[0], np.int64, node.name)
    sign = form.node("Sign", [source], f"{node.name}/sign")
    size = form.node("Abs", [source], f"{node.name}/size")
    factors = form.channels(f"{node.name}/factor", node.factor.numpy(), node.name, np.int64)
    value = form.node("Mul", [size, factors], f"{node.name}/product")
    if node.shift:
        half = form.constant(f"{node.name}/half", 1 << (node.shift - 1), np.int64)
        value = form.node("Add", [value, half], f"{node.name}/above")
        divisor = form.constant(f"{node.name}/divisor", 1 << node.shift, np.int64)
        value = form.node("Div", [value, divisor], f"{node.name}/quotient")
    value = form.node("Mul", [value, sign], f"{node.name}/rounded")
    if target in ACTIVATIONS or target is DType.U31:
        value = form.clip(value, target.minimum, target.maximum, np.int64, f"{node.name}/clipped")
    kind = np.float32 if form.is_float[node.name] else np.int32
    form.cast(value, kind, form.source(node.name))


register(QuantizeOperation())
