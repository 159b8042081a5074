"""Requantization with a factor of its own for negative values: PReLU, and LeakyReLU with a slope per channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type
from nybble.graph.ops.examples import activation, drawn, sums
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.quantize import FACTORS
from nybble.graph.ops.reading import OnnxNode, OnnxValue
from nybble.graph.ops.registry import register
from nybble.graph.rescale import rescale
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, SUMS, Array, DType
from nybble.graph.value_type import MAX_SHIFT, ValueType

#: Largest factors that two float32 scales reproduce.
_EXACT_FACTOR = 1 << 18
#: Relative difference that is allowed between the factors in a file's metadata and its scales.
_SAME = 2.0**-19
#: Error of factors, in steps of the result, that is small.
_TOLERANCE = 2.0**-9


@dataclass(frozen=True, kw_only=True, eq=False)
class PReLU(Node):
    """``v = x * factor[channel]`` from 0 on, ``x * negative_factor[channel]`` below; then rounded and clamped.

    ``sign(v) * ((|v| + 2**(shift-1)) >> shift)``, shift 0 leaves ``v`` as it is. ``factor`` is (channels), u16 or u32;
    ``negative_factor`` is (channels), s32.
    """

    input_type: DType
    output_type: DType
    factor: Tensor
    negative_factor: Tensor
    shift: int


class PReLUOperation(Operation[PReLU]):
    """Requantization by sign."""

    node = PReLU
    format_version = 3

    def infer(self, node: PReLU, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the declared type and is clamped to its range."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, (*ACTIVATIONS, *SUMS))
        if node.output_type not in ACTIVATIONS:
            raise GraphError(f"cannot give {node.output_type}", node=node.name, field="compute_mode")
        if not 0 <= node.shift <= MAX_SHIFT:
            raise GraphError(f"shift {node.shift} is not in 0..{MAX_SHIFT}", node=node.name, field="shift_bits")
        for field, tensor, allowed in (
            ("requant_factor", node.factor, FACTORS),
            ("negative_factor", node.negative_factor, (DType.S32,)),
        ):
            if tensor.dtype not in allowed:
                raise GraphError(f"{field} cannot be {tensor.dtype}", node=node.name, field=field)
            if tensor.shape != source.shape[:1]:
                raise GraphError(
                    f"{field} has {tensor.size} factors, but {node.inputs[0]} has {source.shape[0]} channels",
                    node=node.name,
                    field=field,
                )
        return ValueType(node.output_type, source.shape, node.output_type.magnitude)

    def compute(self, node: PReLU, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Computes the formula of the node in 64 bits, which hold every product."""
        (source,) = values
        shape = (-1, *(1,) * (source.ndim - 2))
        above, below = (part.numpy().astype(np.int64).reshape(shape) for part in (node.factor, node.negative_factor))
        wide = source.astype(np.int64)
        product = np.where(wide < 0, wide * below, wide * above)
        magnitude = (np.abs(product) + ((1 << node.shift) >> 1)) >> node.shift
        rounded = np.where(product < 0, -magnitude, magnitude)
        return np.clip(rounded, node.output_type.minimum, node.output_type.maximum).astype(node.output_type.storage)

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> PReLU:
        """Read the types of input, factor and output."""
        input_type, factor_type, output_type = file.mode(3)
        factor = file.tensor("requant_factor", FACTORS, 1)
        file.expect("compute_mode", factor_type, factor.dtype, "the factor's type")
        negative = file.tensor("negative_factor", (DType.S32,), 1)
        return PReLU(
            name=name,
            inputs=inputs,
            input_type=input_type,
            output_type=output_type,
            factor=folder.tensor(file, "requant_factor", factor, factor.shape),
            negative_factor=folder.tensor(file, "negative_factor", negative, negative.shape),
            shift=file.integer("shift_bits", 0, MAX_SHIFT),
        )

    def write(self, node: PReLU, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the types of input, factor and output, the shift, and both factors."""
        output.text.add("compute_mode", f"{node.input_type}{node.factor.dtype}{node.output_type}")
        output.text.add("shift_bits", node.shift)
        output.add_tensor("requant_factor", node.factor, node.factor.shape)
        output.add_tensor("negative_factor", node.negative_factor, node.negative_factor.shape)

    def narrowed(self, node: PReLU, dtype: DType) -> PReLU:
        """The new type clips the result."""
        return replace(node, output_type=dtype)

    def write_exact(self, node: PReLU, form: ExactForm) -> None:
        """Computed in int64."""
        source = form.converted(node.inputs[0], np.int64, node.name)
        zero = form.constant(f"{node.name}/zero", 0, np.int64)
        is_below = form.node("Less", [source, zero], f"{node.name}/below")
        above = form.channels(f"{node.name}/factor", node.factor.numpy(), node.name, np.int64)
        below = form.channels(f"{node.name}/negative", node.negative_factor.numpy(), node.name, np.int64)
        factors = form.node("Where", [is_below, below, above], f"{node.name}/factors")
        value = form.node("Mul", [source, factors], f"{node.name}/product")
        if node.shift:
            sign = form.node("Sign", [value], f"{node.name}/sign")
            size = form.node("Abs", [value], f"{node.name}/size")
            half = form.constant(f"{node.name}/half", 1 << (node.shift - 1), np.int64)
            size = form.node("Add", [size, half], f"{node.name}/more")
            divisor = form.constant(f"{node.name}/divisor", 1 << node.shift, np.int64)
            size = form.node("Div", [size, divisor], f"{node.name}/quotient")
            value = form.node("Mul", [size, sign], f"{node.name}/rounded")
        target = node.output_type
        clipped = form.clip(value, target.minimum, target.maximum, np.int64, f"{node.name}/clipped")
        form.cast(clipped, np.float32, form.source(node.name))
        form.is_float[node.name] = True

    def write_float(self, node: PReLU, form: RealForm) -> None:
        """Written as PRelu and Clip of real numbers."""
        above = node.factor.numpy().astype(np.float64) / 2.0**node.shift
        below = node.negative_factor.numpy().astype(np.float64) / 2.0**node.shift
        if np.any((above == 0) & (below != 0)):
            raise GraphError("its factor is 0 where that of negative values is not", node=node.name)
        silent = above == 0
        source = form.in_units(node.inputs[0], form.units[node.name] * np.where(silent, 2.0**-60, above), node.name)
        slope = form.channels(f"{node.name}/slope", np.where(silent, 0, below / np.where(silent, 1, above)), node.name)
        value = form.node("PRelu", [source, slope], f"{node.name}/value", name=node.name)
        unit = form.units[node.name]
        form.clip(value, node.output_type.minimum * unit, node.output_type.maximum * unit, node.name)

    def write_qdq(self, node: PReLU, form: RealForm) -> None:
        """Mul and PRelu whose products are rounded as here."""
        form.requantize_by_sign(
            node.name, node.inputs[0], node.factor.numpy(), node.negative_factor.numpy(), node.shift
        )

    def details(self, node: PReLU) -> Sequence[str]:
        """Show the shift."""
        return (f"shift {node.shift}",)

    def onnx_hint(self, node: PReLU) -> Mapping[str, object]:
        """Keep the shift, the type of the factors, and those factors that float32 scales do not give back."""
        hint: dict[str, object] = {"prelu": [node.shift, str(node.factor.dtype)]}
        factors = [tensor.numpy().astype(np.int64) for tensor in (node.factor, node.negative_factor)]
        if max(int(np.abs(values).max()) for values in factors) > _EXACT_FACTOR:
            hint["above"], hint["below"] = (values.tolist() for values in factors)
        return hint

    onnx_operators = ("PRelu", "LeakyRelu", "Where")

    def read_onnx(self, node: OnnxNode) -> OnnxValue | None:
        """Of what QuantizeLinear rounds at once; the import makes tables of functions of one activation before.

        Where is the form in float64, whose parts ``onnx/operators/by_sign.py`` reads: the slopes come in place of what
        they are multiplied by.
        """
        if node.operator == "Where" and "prelu" not in node.hint:
            return None
        source = node.value(2 if node.operator == "Where" else 0)
        kind = node.type_of(source)
        channels = kind.shape[0]
        if node.operator == "LeakyRelu":
            slope = np.full(channels, node.attribute("alpha", 0.01))
        else:
            given = node.constant(1, "slope").astype(np.float64)
            if given.size not in (1, channels) or max(given.shape, default=1) != given.size:
                raise GraphError(f"{given.size} slopes are not one, or one for each of {channels}", node=node.name)
            slope = np.broadcast_to(given.reshape(-1), channels)
        if node.behind is None:
            raise GraphError("only one QuantizeLinear may read it", node=node.name)
        scale, dtype = node.behind
        if scale.size not in (1, channels) or not np.isfinite(slope).all():
            raise GraphError("its slopes, or the scales behind it, are not numbers by channel", node=node.name)
        scales = np.broadcast_to(scale.reshape(-1).astype(np.float64), channels)
        above = source.unit / scales
        factors = _hinted(node, above, slope * above) or _chosen(node, above, slope * above, kind)
        made = PReLU(
            name=node.free(node.name),
            inputs=(source.name,),
            input_type=kind.dtype,
            output_type=dtype,
            factor=Tensor.from_array(factors.dtype, factors.above),
            negative_factor=Tensor.from_array(DType.S32, factors.below),
            shift=factors.shift,
        )
        return OnnxValue(node.add(made), scales)

    def examples(self, random: np.random.Generator) -> Iterator[Example[PReLU]]:
        """Cover every pair of types, slopes of either sign, with ties, clips and shift 0."""
        for input_type in (*ACTIVATIONS, *SUMS):
            source = sums(input_type, 3, 2, 5) if input_type in SUMS else activation(input_type, 3, 2, 5)
            for output_type in ACTIVATIONS:
                for factor_type, shift in ((DType.U16, 0), (DType.U16, 9), (DType.U32, MAX_SHIFT)):
                    negative = random.integers(-factor_type.maximum // 4, factor_type.maximum // 4, 3)
                    node = PReLU(
                        name="prelu",
                        inputs=("x",),
                        input_type=input_type,
                        output_type=output_type,
                        factor=drawn(random, factor_type, 3, low=1),
                        negative_factor=Tensor.from_array(DType.S32, negative),
                        shift=shift,
                    )
                    yield Example(node, (source,))
        node = PReLU(
            name="prelu",
            inputs=("x",),
            input_type=DType.S32,
            output_type=DType.S4,
            factor=Tensor.from_array(DType.U16, np.ones(6, np.int64)),
            negative_factor=Tensor.from_array(DType.S32, np.array([1, -1, 0, 3, -3, 2])),
            shift=1,
        )
        yield Example(node, (sums(DType.S32, 6, magnitude=20),))
        # Small factors and a large shift: many sums lie close to a half, which float32 does not tell apart.
        node = replace(
            node,
            output_type=DType.S8,
            factor=Tensor.from_array(DType.U16, np.array([316, 452, 271, 389, 331, 7])),
            negative_factor=Tensor.from_array(DType.S32, np.array([35, 7, 0, -8, 1, -7])),
            shift=21,
        )
        yield Example(node, (sums(DType.S32, 6, 2, 3, magnitude=1 << 23),))


class _Factors(NamedTuple):
    """Factors of values from 0 on, and below."""

    above: Array
    below: Array
    shift: int
    dtype: DType


def _hinted(node: OnnxNode, above: Array, below: Array) -> _Factors | None:
    """The hint in the file on a node of this name, if it agrees with the node's numbers."""
    known = node.hint.get("prelu")
    if not isinstance(known, list) or len(known) != 2 or known[1] not in [str(dtype) for dtype in FACTORS]:
        return None
    shift, dtype = known[0], DType(known[1])
    if type(shift) is not int or not 0 <= shift <= MAX_SHIFT:
        return None
    found = []
    for name, wanted in (("above", above), ("below", below)):
        held = node.hint.get(name)
        steps = wanted * 2.0**shift
        values = np.rint(steps)
        if isinstance(held, list) and len(held) == len(wanted) and all(type(value) is int for value in held):
            values = np.array(held, np.float64)
        if np.any(np.abs(values - steps) > _SAME * np.abs(values) + 0.5):
            return None
        found.append(values)
    if found[0].max() > dtype.maximum or found[0].min() < 0 or np.abs(found[1]).max() > DType.S32.maximum:
        return None
    return _Factors(found[0].astype(np.int64), found[1].astype(np.int64), shift, dtype)


def _chosen(node: OnnxNode, above: Array, below: Array, kind: ValueType) -> _Factors:
    """Factors and a shift whose error is small in steps of the result."""
    most = np.maximum(above, np.abs(below))
    if most.max() > DType.S32.maximum:
        raise GraphError(f"a multiplier of {most.max():.3g} does not fit 32 bits", node=node.name)
    highest = min(MAX_SHIFT, int(np.floor(np.log2(DType.S32.maximum / max(float(most.max()), 2.0**-MAX_SHIFT)))))
    chosen = rescale(most, kind.magnitude * most, tolerance=_TOLERANCE, highest=highest)
    parts = [np.rint(wanted * 2.0**chosen.shift).astype(np.int64) for wanted in (above, below)]
    lost = [np.abs(part / 2.0**chosen.shift - wanted) for part, wanted in zip(parts, (above, below), strict=True)]
    error = float((np.maximum(*lost) * kind.magnitude).max())
    node.rounded("factor", error, f"in steps of the result, shift {chosen.shift}")
    dtype = DType.U16 if parts[0].max() <= DType.U16.maximum else DType.U32
    return _Factors(parts[0], parts[1], chosen.shift, dtype)


def below_label(name: str) -> str:
    """What the ONNX node is called that says where a value is below 0, in the form in float64."""
    return f"{name}/below"


def sloped_label(name: str) -> str:
    """What the ONNX node is called that multiplies by slopes, in the form in float64."""
    return f"{name}/sloped"


register(PReLUOperation())
