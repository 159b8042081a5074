"""Makes the nodes of an imported graph: real numbers become factors and shifts, whose errors are recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nybble.graph.directory import RESERVED
from nybble.graph.errors import GraphError
from nybble.graph.infer import MAX_SHIFT, ValueType, infer, infer_input
from nybble.graph.nodes import Input, Node, Quantize
from nybble.graph.onnx.clamping import TYPES, clamp, type_of
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.halves import quantized_to_even, report_halves
from nybble.graph.onnx.imported import Rounding
from nybble.graph.onnx.metadata import Hint, Metadata
from nybble.graph.onnx.splitting import between
from nybble.graph.onnx.units import SILENT
from nybble.graph.onnx.values import SAME, Real, are_same
from nybble.graph.rescale import Rescale, rescale
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, SUMS, Array, DType

#: A bound that is this close to an integer number of steps is one.
WHOLE = 1e-3
#: Errors up to here are not worth a line.
NOISE = 2.0**-20
#: Error, in steps of the result, up to which a shift of 16 is taken. A file's answers are given, unlike those of a
#: network that is still to be chosen, so that the tolerance is narrower than that of conversion.
TOLERANCE = 2.0**-9
#: Part of a factor that the float32 of scales rounds.
PRECISION = 2.0**-21


class Builder:
    """Nodes so far, their types, and what was rounded."""

    def __init__(self, metadata: Metadata) -> None:
        self.inputs: list[Input] = []
        self.nodes: list[Node] = []
        self.types: dict[str, ValueType] = {}
        self.roundings: list[Rounding] = []
        self._hints: Mapping[str, Hint] = metadata.nodes
        #: Whether nybble has written the file.
        self.is_ours = metadata.form is not None
        #: Values that several ONNX nodes read, or that are outputs.
        self.shared: set[str] = set()
        #: What the ONNX nodes are called that values are named after.
        self.labels: dict[str, str] = {}
        #: Biases before they were rounded, in steps of the sums.
        self.exact_bias: dict[str, Array] = {}
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
        self.labels[found] = wanted
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

    def reshape_input(self, entry: Input, shape: tuple[int, ...]) -> None:
        """Give an input that nothing reads yet another shape."""
        made = replace(entry, shape=shape)
        self.types[entry.name] = infer_input(made)
        self.inputs[self.inputs.index(entry)] = made

    def add(self, node: Node) -> str:
        """Append a node whose name is free; returns it."""
        self.types[node.name] = infer(node, [self.types[name] for name in node.inputs])
        self.nodes.append(node)
        return node.name

    def rounded(self, node: str, what: str, error: float, detail: str) -> None:
        """Record an error; exact results are not listed."""
        if error > NOISE:
            self.roundings.append(Rounding(self.labels.get(node, node), what, float(error), detail))

    def made(self, name: str) -> Node | None:
        """The node that makes a value; ``None`` for an input."""
        return next((node for node in self.nodes if node.name == name), None)

    def is_free(self, name: str, reader: str | None = None) -> bool:
        """Whether nobody but ``reader`` reads a value, now or later, so that its node may be changed."""
        read = any(name in node.inputs for node in self.nodes if node.name != reader)
        return not read and name not in self.shared

    def replace(self, node: Node) -> None:
        """Put a node in the place of the one of its name."""
        place = next(index for index, old in enumerate(self.nodes) if old.name == node.name)
        self.types[node.name] = infer(node, [self.types[name] for name in node.inputs])
        self.nodes[place] = node

    def bias(self, name: str, steps: Array) -> Tensor:
        """The bias of a node, from numbers of steps, which are kept in case more is added.

        Raises
        ------
        OnnxImportError
            If it does not fit 32 bits.
        """
        values = np.rint(steps)
        if not np.all(np.abs(values) <= DType.S32.maximum):
            raise OnnxImportError("its bias does not fit 32 bits in steps of the sums", node=name)
        self.exact_bias[name] = steps
        label = self.labels.get(name, name)
        self.roundings = [entry for entry in self.roundings if (entry.node, entry.what) != (label, "bias")]
        self.rounded(name, "bias", float(np.max(np.abs(steps - values))), "in steps of the sum")
        hinted = self.hint(label).bias
        fits = hinted is DType.S16 and values.min() >= DType.S16.minimum and values.max() <= DType.S16.maximum
        return Tensor.from_array(DType.S16 if fits else DType.S32, values.astype(np.int64))

    # Sums

    def lift(self, real: Real) -> Real:
        """An activation as a sum of the same integers."""
        if real.is_sum:
            return real
        dtype = self.types[real.value].dtype
        channels = self.types[real.value].shape[0]
        target = DType.S32 if dtype.is_signed else DType.U31
        name = self.requantize(
            real.through or f"{real.value}_sum",
            real.value,
            target,
            Tensor.from_array(DType.U16, np.ones(channels, int)),
            0,
        )
        return replace(real, value=name, is_sum=True, through=None)

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

    def levelled(self, real: Real, extent: Array, name: str) -> tuple[Real, int]:
        """A sum in which a maximum is one number of steps for all channels, and that number."""
        steps = extent / real.unit
        maximum = round(min(float(steps.max()), SUM_LIMIT))
        if np.any(np.rint(np.minimum(steps, SUM_LIMIT)) != maximum):
            return self._stretched(real, extent, max(maximum, 1), name), max(maximum, 1)
        self.rounded(name, "maximum", float(np.max(np.abs(steps - maximum))), "in steps of the sum")
        return real, max(maximum, 0)

    def _stretched(self, real: Real, extent: Array, maximum: int, name: str) -> Real:
        """A sum whose unit in each channel makes an extent so many steps; what has no extent is 0."""
        has_any = extent > 0
        unit = np.where(has_any, extent / maximum, real.unit)
        multiplier = real.unit / unit
        reads = self.types[real.value]
        chosen = self._rescale(name, multiplier, reads.magnitude * multiplier, highest=16)
        self.rounded(name, "factor", chosen.error, f"in steps of the sum, shift {chosen.shift}")
        factor = Tensor.from_array(chosen.factor.dtype, np.where(has_any, chosen.factor.numpy(), 0))
        return replace(
            real, value=self.requantize(f"{name}_level", real.value, reads.dtype, factor, chosen.shift), unit=unit
        )

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
        chosen = self._rescale(name, multiplier, reads.magnitude * multiplier, highest=16)
        if hint.output in SUMS and (hint.output is DType.S32 or target is DType.U31):
            target = hint.output
        self.rounded(name, "factor", chosen.error, f"in steps of the sum, shift {chosen.shift}")
        return self.requantize(name, real.value, target, chosen.factor, chosen.shift)

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

    # Activations

    def quantize(self, real: Real, scale: Array | float, dtype: DType, name: str) -> str:
        """What QuantizeLinear makes of a value: an activation of the narrowest type that says the same.

        ``scale`` is one number or one a channel.
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
            # As the graph had it, although the type clips there as well.
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
        chosen = self._rescale(name, multiplier, reach, most=2.0 * target.magnitude)
        self.rounded(name, "factor", chosen.error, f"in steps of {target}, shift {chosen.shift}")
        if not self.is_ours:
            report_halves(self, name, multiplier, chosen, self.types[real.value].magnitude)
        return self.requantize(name, real.value, target, chosen.factor, chosen.shift)

    def uniform(self, real: Real, name: str) -> Real:
        """An activation in which a step stands for the same in all channels; four bits become eight, which is finer."""
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

    def retyped(self, value: str, dtype: DType, name: str) -> str:
        """The same integers in another type."""
        if self.types[value].dtype is dtype:
            return value
        ones = Tensor.from_array(DType.U16, np.ones(self.types[value].shape[0], int))
        return self.requantize(name, value, dtype, ones, 0)

    def narrow(self, value: str, low: int, high: int, is_only: bool, name: str) -> str:
        """Clip an activation's integers: a narrower type of the node that makes them, where there is one."""
        held = self.types[value].dtype
        low, high = min(max(low, held.minimum), held.maximum), max(min(high, held.maximum), held.minimum)
        low = min(low, high)
        target = type_of(low, high)
        if target is not None and target is not held and is_only and self.is_free(value):
            node = self.made(value)
            if isinstance(node, Quantize):
                self.replace(replace(node, output_type=target))
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
                chosen = rescale(multiplier, reach, highest=highest, tolerance=TOLERANCE)
            else:
                chosen = rescale(multiplier, reach, shift=hint.shift)
        except GraphError as error:
            raise OnnxImportError(f"its scales do not fit one another: {error.message}", node=name) from error
        # What the scales' own float32 rounds is no error of the factors.
        lost = np.abs(chosen.factor.numpy() / 2.0**chosen.shift / multiplier - 1)
        return replace(chosen, error=float((np.where(lost > PRECISION, lost, 0.0) * reach).max()))

    def requantize(self, name: str, source: str, target: DType, factor: Tensor, shift: int) -> str:
        """Add a Quantize, with factors of the hinted type where they fit it."""
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
    """The activation type with these bounds; signed ones do for what a ReLU has cut off already."""
    found = type_of(low, high)
    return DType.S4 if found is None and is_cut and (low, high) == (0, DType.S4.maximum) else found
