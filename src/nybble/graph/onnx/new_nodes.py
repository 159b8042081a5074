"""The nodes of an imported graph: names, types, what was rounded, and requantizations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from nybble.graph.directory import RESERVED
from nybble.graph.errors import GraphError
from nybble.graph.infer import infer, infer_input
from nybble.graph.nodes import Input, Node
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.imported import Rounding
from nybble.graph.onnx.metadata import Hint, Metadata
from nybble.graph.onnx.values import SAME, Real
from nybble.graph.ops import Quantize
from nybble.graph.rescale import Rescale, rescale
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUM_LIMIT, Array, DType
from nybble.graph.value_type import MAX_SHIFT, ValueType

#: Errors up to this size are not reported.
NOISE = 2.0**-20
#: Error, in steps of the result, up to which a shift of 16 is used. It is smaller than in a conversion, since the
#: results of the file are to be reproduced.
TOLERANCE = 2.0**-9
#: Relative rounding error of a factor from float32 scales.
PRECISION = 2.0**-21


class NewNodes:
    """The nodes so far, their types, and the roundings. All parts of an import add nodes with this class."""

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
        #: Names of the ONNX nodes that values are named after.
        self.labels: dict[str, str] = {}
        #: Biases before they were rounded, in steps of the sums.
        self.exact_bias: dict[str, Array] = {}

    # Names and nodes

    def free(self, wanted: str) -> str:
        """A free name that can be a file name."""
        name = re.sub(r"[^A-Za-z0-9_.\-]", "_", wanted).lstrip(".-")[:160] or "node"
        number = 2
        found = name
        while found in self.types or found in RESERVED:
            found = f"{name}_{number}"
            number += 1
        self.labels[found] = wanted
        return found

    def hint(self, name: str) -> Hint:
        """The hint on a node in the metadata."""
        return self._hints.get(name, Hint())

    def enter(self, name: str, dtype: DType, shape: tuple[int, ...]) -> str:
        """Add an input."""
        entry = Input(name=self.free(name), dtype=dtype, shape=shape)
        self.types[entry.name] = infer_input(entry)
        self.inputs.append(entry)
        return entry.name

    def reshape_input(self, entry: Input, shape: tuple[int, ...]) -> None:
        """Change the shape of an input that no node reads yet."""
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
        """Whether only ``reader`` reads a value, now and later, so that its node may be changed."""
        read = any(name in node.inputs for node in self.nodes if node.name != reader)
        return not read and name not in self.shared

    def replace(self, node: Node) -> None:
        """Replace the node of the same name."""
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

    # Requantizations

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

    def levelled(self, real: Real, extent: Array, name: str) -> tuple[Real, int]:
        """A sum in which a maximum is one number of steps for all channels, and that number."""
        steps = extent / real.unit
        maximum = round(min(float(steps.max()), SUM_LIMIT))
        if np.any(np.rint(np.minimum(steps, SUM_LIMIT)) != maximum):
            return self._stretched(real, extent, max(maximum, 1), name), max(maximum, 1)
        self.rounded(name, "maximum", float(np.max(np.abs(steps - maximum))), "in steps of the sum")
        return real, max(maximum, 0)

    def _stretched(self, real: Real, extent: Array, maximum: int, name: str) -> Real:
        """A sum whose unit in each channel makes an extent ``steps`` steps; channels without extent are 0."""
        has_any = extent > 0
        unit = np.where(has_any, extent / maximum, real.unit)
        multiplier = real.unit / unit
        reads = self.types[real.value]
        chosen = self.rescale(name, multiplier, reads.magnitude * multiplier, highest=16)
        self.rounded(name, "factor", chosen.error, f"in steps of the sum, shift {chosen.shift}")
        factor = Tensor.from_array(chosen.factor.dtype, np.where(has_any, chosen.factor.numpy(), 0))
        return replace(
            real, value=self.requantize(f"{name}_level", real.value, reads.dtype, factor, chosen.shift), unit=unit
        )

    def retyped(self, value: str, dtype: DType, name: str) -> str:
        """The same integers in another type."""
        if self.types[value].dtype is dtype:
            return value
        ones = Tensor.from_array(DType.U16, np.ones(self.types[value].shape[0], int))
        return self.requantize(name, value, dtype, ones, 0)

    def rescale(
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
        # The rounding of the float32 scales themselves is not an error of the factors.
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
