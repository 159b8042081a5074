"""Makes the nodes of an imported graph: real numbers become factors and shifts, whose errors are recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nybble.graph.directory import RESERVED
from nybble.graph.errors import GraphError
from nybble.graph.infer import MAX_SHIFT, ValueType, infer, infer_input
from nybble.graph.nodes import Conv2d, Input, Linear, Node, Quantize, ReLU
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.metadata import Hint, Metadata
from nybble.graph.onnx.units import SILENT
from nybble.graph.onnx.values import SAME, Real, are_same
from nybble.graph.rescale import Rescale, rescale
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, SUMS, Array, DType

#: Types of activations, narrow ones first.
TYPES = (DType.U4, DType.S4, DType.U7, DType.S8, DType.U8)
#: A bound that is this close to an integer number of steps is one.
WHOLE = 1e-3
#: Errors up to here are not worth a line.
NOISE = 2.0**-20
#: Part of a factor that the float32 of scales rounds.
PRECISION = 2.0**-21


@dataclass(frozen=True)
class Rounding:
    """What was rounded in a node: ``error`` in steps of its result, ``what`` says of what."""

    node: str
    what: str
    error: float
    detail: str


class Builder:
    """Nodes so far, their types, and what was rounded."""

    def __init__(self, metadata: Metadata) -> None:
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.types: dict[str, ValueType] = {}
        self.roundings: list[Rounding] = []
        self._hints: Mapping[str, Hint] = metadata.nodes
        self._is_ours = metadata.form is not None
        self._settled: dict[tuple[object, ...], Real] = {}

    # Names and nodes

    def free(self, wanted: str) -> str:
        """A name that can be a file's and is not taken."""
        name = re.sub(r"[^A-Za-z0-9_.\-]", "_", wanted).lstrip(".-")[:160] or "node"
        number = 2
        found = name
        while found in self.types or found in RESERVED:
            found = f"{name}_{number}"
            number += 1
        return found

    def hint(self, name: str) -> Hint:
        """What the metadata say of a node."""
        return self._hints.get(name, Hint())

    def enter(self, name: str, dtype: DType, shape: tuple[int, ...]) -> str:
        """Add an input."""
        entry = Input(name=self.free(name), dtype=dtype, shape=shape)
        self.types[entry.name] = infer_input(entry)
        self.inputs.append(entry)
        return entry.name

    def add(self, node: Node) -> str:
        """Append a node whose name is free; returns it."""
        self.types[node.name] = infer(node, [self.types[name] for name in node.inputs])
        self.nodes.append(node)
        return node.name

    def rounded(self, node: str, what: str, error: float, detail: str) -> None:
        """Record an error; exact results are not listed."""
        if error > NOISE:
            self.roundings.append(Rounding(node, what, float(error), detail))

    def set_bias(self, name: str, bias: Tensor) -> bool:
        """Give the last node that makes sums a bias, if it has none."""
        last = self.nodes[-1] if self.nodes else None
        if not isinstance(last, Conv2d | Linear) or last.name != name or last.bias is not None:
            return False
        self.nodes.pop()
        self.add(replace(last, bias=bias))
        return True

    # Sums

    def lift(self, real: Real) -> Real:
        """An activation as a sum of the same integers."""
        if real.is_sum:
            return real
        dtype = self.types[real.value].dtype
        channels = self.types[real.value].shape[0]
        target = DType.S32 if dtype.is_signed else DType.U31
        name = self._requantize(
            real.through or f"{real.value}_sum",
            real.value,
            target,
            Tensor.from_array(DType.U16, np.ones(channels, int)),
            0,
        )
        return replace(real, value=name, is_sum=True, through=None)

    def settle(self, real: Real, reader: str) -> Real:
        """The same value with its ReLU and maximum as a node, if it has any.

        Raises
        ------
        OnnxImportError
            If it is clipped below at something else than 0, or each channel at another integer.
        """
        if not real.is_cut:
            return real
        key = (real.value, real.relu, real.clip)
        if key in self._settled:
            return replace(self._settled[key], flat=real.flat)
        if real.low is not None or real.relu is None:
            raise OnnxImportError(
                "a clip to other bounds than 0 and a maximum is not supported here; put QuantizeLinear behind it",
                node=real.clip or reader,
            )
        lifted = self.lift(replace(real, through=None))
        self.check_positive(lifted, reader)
        maximum, name = None, real.relu
        if real.high is not None:
            steps = real.high / lifted.unit
            maximum, name = round(float(steps[0])), real.clip or real.relu
            if np.any(np.rint(steps) != maximum):
                raise OnnxImportError(
                    "its maximum is another number of integer steps in each channel; put QuantizeLinear behind it",
                    node=name,
                )
            maximum = min(max(maximum, 0), SUM_LIMIT)
            self.rounded(name, "maximum", float(np.max(np.abs(steps - maximum))), "in steps of the sum")
        node = ReLU(
            name=self.free(name), inputs=(lifted.value,), input_type=self.types[lifted.value].dtype, maximum=maximum
        )
        made = Real(self.add(node), lifted.unit, True)
        self._settled[key] = made
        return replace(made, flat=real.flat)

    def to_sum(self, real: Real, unit: Array, reader: str) -> str:
        """A value as a sum of the given unit: as it is, or through a Quantize."""
        real = self.settle(real, reader)
        self.check_positive(real, reader)
        if real.is_sum and are_same(real.unit, unit):
            return real.value
        reads = self.types[real.value]
        multiplier = real.unit / unit
        name = real.through or f"{reader}_shortcut"
        hint = self.hint(name)
        target = DType.U31 if reads.dtype in (DType.U4, DType.U7, DType.U8, DType.U31) else DType.S32
        chosen = self._rescale(name, multiplier, reads.magnitude * multiplier, highest=16)
        if hint.output in SUMS and (hint.output is DType.S32 or target is DType.U31):
            target = hint.output
        self.rounded(name, "factor", chosen.error, f"in steps of the sum, shift {chosen.shift}")
        return self._requantize(name, real.value, target, chosen.factor, chosen.shift)

    def through(self, real: Real) -> Real:
        """A value behind a Mul or Identity: a Quantize into a sum, where the metadata say that it was one."""
        hint = self.hint(real.through or "")
        channels = self.types[real.value].shape[0]
        known = hint.output in SUMS and hint.factors is not None and hint.shift is not None
        if not known or len(hint.factors or ()) != channels or np.any(real.unit <= 0):
            return real
        real = self.settle(real, real.through or "")
        factors = np.clip(np.array(hint.factors, np.int64), 0, DType.U32.maximum)
        kind = DType.U16 if factors.max() <= DType.U16.maximum else DType.U32
        name = self._requantize(
            real.through or "", real.value, hint.output or DType.S32, Tensor.from_array(kind, factors), hint.shift or 0
        )
        step = factors / 2.0 ** (hint.shift or 0)
        return replace(real, value=name, unit=real.unit / np.where(step > 0, step, SILENT), is_sum=True, through=None)

    def rounded_sum(self, real: Real, name: str) -> Real:
        """A value rounded to whole numbers: a sum of unit 1."""
        ones = np.ones(self.types[real.value].shape[0])
        return replace(
            real,
            value=self.to_sum(replace(real, through=name), ones, name),
            unit=ones,
            is_sum=True,
            through=None,
            relu=None,
            high=None,
            clip=None,
        )

    @staticmethod
    def check_positive(real: Real, reader: str) -> None:
        """Refuse a value that was multiplied by something negative, or by 0."""
        if not np.all(real.unit > 0) or not np.all(np.isfinite(real.unit)):
            raise OnnxImportError("it reads a value that was multiplied by a number not above 0", node=reader)

    # Activations

    def quantize(self, real: Real, scale: float, dtype: DType, name: str) -> str:
        """What QuantizeLinear makes of a value: an activation of the narrowest type that says the same."""
        if real.padding is not None and not are_same(real.unit, scale):
            raise OnnxImportError("its input is padded and has another scale; pad behind it", node=name)
        self.check_positive(real, name)
        high = None if real.high is None else real.high / scale
        low = None if real.low is None else real.low / scale
        top: int = dtype.maximum
        bottom: int = 0 if real.relu is not None else dtype.minimum
        if high is not None and np.rint(high).min() < top:
            if np.any(np.rint(high) != np.rint(high[0])):
                real, high = self.settle(real, name), None
            else:
                top = max(0, round(float(high[0])))
        if low is not None and np.rint(low).max() > bottom:
            if np.any(np.rint(low) != np.rint(low[0])):
                raise OnnxImportError(
                    "its lower bound differs by channel, which is not supported", node=real.clip or name
                )
            bottom = round(float(low[0]))
        target = _type(bottom, top, real.relu is not None)
        hint = self.hint(name)
        if self._keeps_maximum(real):
            # As the graph had it, although the type clips there as well.
            real, target = self.settle(real, name), target or dtype
        elif target is None:
            return self._cut(self.quantize(replace(real, low=None, high=None), scale, dtype, name), bottom, top, name)
        if hint.output in TYPES and hint.output.maximum == target.maximum and real.relu is not None:
            target = hint.output
        held = self.types[real.value].dtype
        if (
            are_same(real.unit, scale)
            and not real.is_sum
            and target.minimum <= held.minimum
            and held.maximum <= target.maximum
        ):
            return real.value
        if real.relu is not None and (real.is_sum or target.is_signed):
            # The type clips above, whatever the maximum was.
            real = self.settle(replace(real, high=None, low=None), name)
        multiplier = real.unit / scale
        reach = np.minimum(float(target.magnitude), self.types[real.value].magnitude * multiplier)
        # From twice its largest value on, the type clips all but 0.
        chosen = self._rescale(name, multiplier, reach, most=2.0 * target.magnitude)
        self.rounded(name, "factor", chosen.error, f"in steps of {target}, shift {chosen.shift}")
        return self._requantize(name, real.value, target, chosen.factor, chosen.shift)

    def retyped(self, value: str, dtype: DType, name: str) -> str:
        """The same integers in another type."""
        if self.types[value].dtype is dtype:
            return value
        ones = Tensor.from_array(DType.U16, np.ones(self.types[value].shape[0], int))
        return self._requantize(name, value, dtype, ones, 0)

    def narrow(self, value: str, low: int, high: int, is_only: bool, name: str) -> str:
        """Clip an activation's integers: a narrower type of the node that makes them, where there is one."""
        held = self.types[value].dtype
        if low <= held.minimum and held.maximum <= high:
            return value
        target = _type(max(low, held.minimum), min(high, held.maximum), False)
        last = self.nodes[-1] if self.nodes else None
        if target is not None and is_only:
            if isinstance(last, Quantize) and last.name == value:
                self.nodes.pop()
                return self.add(replace(last, output_type=target))
            if not self.nodes and self.inputs[-1].name == value:
                entry = self.inputs.pop()
                del self.types[value]
                return self.enter(value, target, entry.shape)
        return self._cut(value, low, high, name)

    def _cut(self, value: str, low: int, high: int, name: str) -> str:
        """Clip integers of an activation to 0 and a maximum: up to a sum, ReLU, and back."""
        held = self.types[value].dtype
        if high < 0 or low not in (0, held.minimum) or (low and high < held.maximum):
            raise OnnxImportError(
                f"a clip to {low}..{high} steps is not supported: 0 and a maximum, or the whole range of a type",
                node=name,
            )
        ones = Tensor.from_array(DType.U16, np.ones(self.types[value].shape[0], int))
        lifted = self.lift(Real(value, np.ones(1), False)).value
        clipped = ReLU(
            name=self.free(f"{name}_clip"), inputs=(lifted,), input_type=self.types[lifted].dtype, maximum=high
        )
        target = next(kind for kind in (DType.U4, DType.U7, DType.U8) if kind.maximum >= high)
        return self._requantize(f"{name}_clipped", self.add(clipped), target, ones, 0)

    def _keeps_maximum(self, real: Real) -> bool:
        """Whether a maximum is a whole number of a sum's steps, as in graphs that nybble has exported."""
        if not self._is_ours or not real.is_sum or real.relu is None or real.high is None:
            return False
        steps = real.high / real.unit
        return bool(np.all(np.abs(steps - np.rint(steps[0])) < WHOLE * np.maximum(1.0, steps * 1e-3)))

    # Parts

    def _rescale(
        self, name: str, multiplier: Array, reach: Array, *, highest: int = MAX_SHIFT, most: float = np.inf
    ) -> Rescale:
        """Factors, none above ``most``, and a shift: the hinted ones where the scales agree with them."""
        hint = self.hint(name)
        if hint.shift is not None and hint.factors is not None and len(hint.factors) == len(multiplier):
            factors = np.clip(np.array(hint.factors, np.float64), 0, DType.U32.maximum)
            if np.all(np.abs(factors - multiplier * 2.0**hint.shift) <= SAME * factors + 0.5):
                return Rescale(Tensor.from_array(DType.U32, factors.astype(np.int64)), hint.shift, 0.0, hint.shift, 0.0)
        multiplier = np.minimum(multiplier, most)
        try:
            if hint.shift is None or float(multiplier.max()) * 2.0**hint.shift >= DType.U32.maximum:
                chosen = rescale(multiplier, reach, highest=highest)
            else:
                chosen = rescale(multiplier, reach, shift=hint.shift)
        except GraphError as error:
            raise OnnxImportError(f"its scales do not fit one another: {error.message}", node=name) from error
        # What the scales' own float32 rounds is no error of the factors.
        lost = np.abs(chosen.factor.numpy() / 2.0**chosen.shift / multiplier - 1)
        return replace(chosen, error=float((np.where(lost > PRECISION, lost, 0.0) * reach).max()))

    def _requantize(self, name: str, source: str, target: DType, factor: Tensor, shift: int) -> str:
        hinted = self.hint(name).factor
        if hinted is not None and hinted in (DType.U16, DType.U32) and int(factor.numpy().max()) <= hinted.maximum:
            factor = Tensor.from_array(hinted, factor.numpy())
        node = Quantize(
            name=self.free(name),
            inputs=(source,),
            input_type=self.types[source].dtype,
            output_type=target,
            factor=factor,
            shift=shift,
        )
        return self.add(node)


def _type(low: int, high: int, is_cut: bool) -> DType | None:
    """The activation type with these bounds; signed ones do for what a ReLU has cut off already."""
    for dtype in TYPES:
        if dtype.maximum == high and dtype.minimum == low:
            return dtype
    if is_cut and high == DType.S4.maximum:
        return DType.S4
    return None
