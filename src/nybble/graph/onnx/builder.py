"""Turns the real numbers of an imported model into sums and activations, with factors and shifts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nybble.graph.onnx.clamping import TYPES, clamp, type_of
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.halves import quantized_to_even, report_halves
from nybble.graph.onnx.metadata import Metadata
from nybble.graph.onnx.new_nodes import NewNodes
from nybble.graph.onnx.splitting import between
from nybble.graph.onnx.units import SILENT
from nybble.graph.onnx.values import Real, are_same
from nybble.graph.ops.registry import operation_of
from nybble.graph.ops.scale import Scale
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, SUMS, Array, DType

#: A bound that is this close to an integer number of steps is one.
WHOLE = 1e-3


class Builder(NewNodes):
    """The functions with which readers of ONNX operators make values."""

    def __init__(self, metadata: Metadata) -> None:
        super().__init__(metadata)
        self._settled: dict[tuple[object, ...], Real] = {}

    # Sums

    def settle(self, real: Real, reader: str) -> Real:
        """The same value with its bounds as nodes, if it has any."""
        if not real.is_cut:
            return real
        parts = (real.unit, real.high, real.low)
        key = (real.value, real.relu, real.clip, *(None if part is None else part.tobytes() for part in parts))
        if key in self._settled:
            return replace(self._settled[key], flat=real.flat, layout=real.layout)
        name = real.clip if real.high is not None or real.relu is None else real.relu
        made = replace(between(self, replace(real, through=None), name or reader), flat=False, layout=None)
        self._settled[key] = made
        return replace(made, flat=real.flat, layout=real.layout)

    def to_sum(self, real: Real, unit: Array, reader: str) -> str:
        """A value as a sum of the given unit: as it is, or through a Quantize."""
        real = self.settle(real, reader)
        if real.is_sum and are_same(real.unit, unit):
            return real.value
        reads = self.types[real.value]
        multiplier = real.unit / unit
        name = real.through or f"{reader}_shortcut"
        hint = self.hint(name)
        target = DType.U31 if reads.dtype in (DType.U4, DType.U7, DType.U8, DType.U31) else DType.S32
        chosen = self.rescale(name, multiplier, reads.magnitude * multiplier, highest=16)
        if hint.output in SUMS and (hint.output is DType.S32 or target is DType.U31):
            target = hint.output
        self.rounded(name, "factor", chosen.error, f"in steps of the sum, shift {chosen.shift}")
        return self.requantize(name, real.value, target, chosen.factor, chosen.shift)

    def through(self, real: Real) -> Real:
        """A value behind a Mul or Identity: a Quantize to a sum, if the metadata say that it was one."""
        hint = self.hint(real.through or "")
        channels = self.types[real.value].shape[0]
        known = hint.output in SUMS and hint.factors is not None and hint.shift is not None
        if not known or len(hint.factors or ()) != channels or np.any(real.unit <= 0):
            return real
        real = self.settle(real, real.through or "")
        factors = np.clip(np.array(hint.factors, np.int64), 0, DType.U32.maximum)
        kind = DType.U16 if factors.max() <= DType.U16.maximum else DType.U32
        name = self.requantize(
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

    def scaled(self, real: Real, name: str) -> Real:
        """A value as real numbers of the graph: a Scale of its sums, called ``name``."""
        lifted = self.lift(self.settle(real, name))
        with np.errstate(over="ignore", under="ignore"):
            scales = Tensor.from_array(DType.F32, (1.0 / lifted.unit).astype(np.float32))
        value = self.add(Scale(name=self.free(name), inputs=(lifted.value,), out_scale=scales))
        return Real(value, np.ones(len(lifted.unit)), False)

    # Activations

    def quantize(self, real: Real, scale: Array | float, dtype: DType, name: str) -> str:
        """The result of a QuantizeLinear: an activation of the narrowest type with the same meaning.

        ``scale`` is one number or one per channel.
        """
        if real.padding is not None and not are_same(real.unit, scale):
            raise OnnxImportError("its input is padded and has another scale; pad behind it", node=name)
        scale = np.broadcast_to(np.asarray(scale, np.float64), real.unit.shape)
        low, high = _codes(real, scale, dtype)
        if np.any(high != high[0]) and _has_one_maximum(real):
            real = self.settle(real, name)
            high = _codes(real, scale, dtype)[1]
        bottom, top = int(low.min()), int(high.max())
        is_even = bool(np.all(low == bottom) and np.all(high == top))
        target = (_type(bottom, top, real.relu is not None)) if is_even else None
        hint = self.hint(name)
        if self._keeps_maximum(real):
            # Keep the maximum of the exported graph, although the type clips there as well.
            real, target = self.settle(real, name), target or dtype
        elif target is None:
            free = replace(real, low=None, high=None)
            return clamp(self, self.quantize(free, scale, dtype, name), low, high, name)
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
        at_even = quantized_to_even(self, real, multiplier, target, name)
        if at_even is not None:
            return at_even
        # From twice its largest value on, the type clips all but 0.
        chosen = self.rescale(name, multiplier, reach, most=2.0 * target.magnitude)
        self.rounded(name, "factor", chosen.error, f"in steps of {target}, shift {chosen.shift}")
        if not self.is_ours:
            report_halves(self, name, multiplier, chosen, self.types[real.value].magnitude)
        return self.requantize(name, real.value, target, chosen.factor, chosen.shift)

    def uniform(self, real: Real, name: str) -> Real:
        """An activation with the same step in all channels; four bits become eight, which is finer."""
        if real.is_uniform:
            return real
        held = self.types[real.value].dtype
        wide = {DType.U4: DType.U8, DType.S4: DType.S8}.get(held, held)
        unit = float(real.unit.max()) * held.magnitude / wide.magnitude
        value = self.quantize(replace(real, padding=None), unit, wide, f"{name}_uniform")
        self.rounded(
            f"{name}_uniform", "scales", 0.5, f"in steps of {wide}: its scales by channel were made one for all"
        )
        return replace(real, value=value, unit=np.full(real.unit.shape, unit), through=None)

    def narrow(self, value: str, low: int, high: int, is_only: bool, name: str) -> str:
        """Clip an activation's integers: a narrower type of the node that makes them, where there is one."""
        held = self.types[value].dtype
        low, high = min(max(low, held.minimum), held.maximum), max(min(high, held.maximum), held.minimum)
        low = min(low, high)
        target = type_of(low, high)
        if target is not None and target is not held and is_only and self.is_free(value):
            node = self.made(value)
            operation = None if node is None else operation_of(node)
            narrowed = None if operation is None else operation.narrowed(node, target)
            if narrowed is not None:
                self.replace(narrowed)
                return value
            if node is None and self.inputs[-1].name == value:
                entry = self.inputs.pop()
                del self.types[value]
                return self.enter(value, target, entry.shape)
        return clamp(self, value, low, high, name)

    def _keeps_maximum(self, real: Real) -> bool:
        """Whether a maximum is a whole number of a sum's steps, as in graphs that nybble has exported."""
        if not self.is_ours or not real.is_sum or real.relu is None or real.high is None:
            return False
        steps = real.high / real.unit
        return bool(np.all(np.abs(steps - np.rint(steps[0])) < WHOLE * np.maximum(1.0, steps * 1e-3)))


def _codes(real: Real, scale: Array, dtype: DType) -> tuple[Array, Array]:
    """The least and the largest integer of each channel that a value has in steps of ``scale``."""
    low = np.full(scale.shape, 0 if real.relu is not None else dtype.minimum, np.int64)
    high = np.full(scale.shape, dtype.maximum, np.int64)
    if real.low is not None:
        low = np.clip(np.rint(real.low / scale), low, dtype.maximum).astype(np.int64)
    if real.high is not None:
        high = np.clip(np.rint(real.high / scale), low, dtype.maximum).astype(np.int64)
    return np.minimum(low, high), high


def _has_one_maximum(real: Real) -> bool:
    """Whether a ReLU's maximum is the same number of a sum's steps in all channels."""
    if real.relu is None or real.high is None or real.low is not None:
        return False
    steps = np.rint(np.minimum(real.high / real.unit, SUM_LIMIT))
    return real.is_sum and bool(np.all(steps == steps[0]))


def _type(low: int, high: int, is_cut: bool) -> DType | None:
    """The activation type with these bounds; behind a ReLU a signed type is also possible."""
    found = type_of(low, high)
    return DType.S4 if found is None and is_cut and (low, high) == (0, DType.S4.maximum) else found
