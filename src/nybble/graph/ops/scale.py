"""Logits: sums divided by a float scale."""

from __future__ import annotations

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
from nybble.graph.ops.examples import sums
from nybble.graph.ops.forms import ExactForm, RealForm
from nybble.graph.ops.registry import register
from nybble.graph.ops.units import Unit
from nybble.graph.tensor import Tensor
from nybble.graph.types import SUMS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale(Node):
    """Logits: float32(x) divided by float32 ``out_scale`` of the channel."""

    out_scale: Tensor


class ScaleOperation(Operation[Scale]):
    """Scale of the logits."""

    node = Scale
    unit = Unit.REAL

    def infer(self, node: Scale, inputs: Sequence[ValueType]) -> ValueType:
        """The result is f32 of the input's shape."""
        (source,) = inputs
        if source.dtype not in SUMS:
            raise GraphError(f"cannot scale {source.dtype}, only s32 and u31", node=node.name, field="inputs")
        if node.out_scale.dtype is not DType.F32:
            raise GraphError(f"out_scale is {node.out_scale.dtype}, not f32", node=node.name, field="out_scale")
        if node.out_scale.shape != source.shape[:1]:
            raise GraphError(
                f"has {node.out_scale.size} scales, but {node.inputs[0]} has {source.shape[0]} channels",
                node=node.name,
                field="out_scale",
            )
        scales = node.out_scale.numpy()
        if not np.all(np.isfinite(scales)) or np.any(scales == 0):
            raise GraphError("out_scale holds zero, NaN or infinity", node=node.name, field="out_scale")
        return ValueType(DType.F32, source.shape, 0)

    def compute(self, node: Scale, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Divides once, in float32."""
        (source,) = values
        scale = node.out_scale.numpy().reshape(-1, *(1,) * (source.ndim - 2))
        with np.errstate(over="ignore", under="ignore"):
            result: Array = source.astype(np.float32) / scale
        return result

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Scale:
        """The node carries no type of input: see :meth:`declared_inputs`."""
        file.expect("compute_mode", file.mode(3)[1:], (DType.F32, DType.F32), "parameter and output:")
        reference = file.tensor("out_scale", (DType.F32,), 1)
        return Scale(name=name, inputs=inputs, out_scale=folder.tensor(file, "out_scale", reference, reference.shape))

    def write(self, node: Scale, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write the input's type, those of parameter and output, and the scales."""
        output.text.add("compute_mode", f"{sources[0]}{DType.F32}{DType.F32}")
        output.add_tensor("out_scale", node.out_scale, node.out_scale.shape)

    def declared_inputs(self, file: LayerFile) -> Sequence[DType]:
        """The first type of ``compute_mode``."""
        return file.mode(3)[:1]

    def converted(self, node: Scale, input_type: DType | None, ratio: Fraction) -> Scale:
        """``ratio`` is that of the sums that are read: the scales are in new units of these."""
        if ratio == 1:
            return node
        # Here, as importing it takes a megabyte, which an engine does without.
        from fractions import Fraction

        try:
            with np.errstate(over="ignore"):
                scales = np.array(
                    [float(Fraction(float(scale)) * ratio) for scale in node.out_scale.numpy()], np.float32
                )
            return replace(node, out_scale=Tensor.from_array(DType.F32, scales))
        except ValueError as error:
            raise GraphError(
                "at 8 bits, a scale exceeds the range of float32", node=node.name, field="out_scale"
            ) from error

    def real_unit(self, node: Scale, types: Sequence[ValueType], units: Sequence[Array]) -> Array:
        """Units are 1: the result is real."""
        return np.ones(node.out_scale.shape)

    def wanted_unit(self, node: Scale) -> Array:
        """Of logits: then nothing is left to divide."""
        unit: Array = 1.0 / np.abs(node.out_scale.numpy().reshape(-1).astype(np.float64))
        return unit

    def write_exact(self, node: Scale, form: ExactForm) -> None:
        """Written as Div in float32."""
        form.is_float[node.name] = True
        scale = form.channels(f"{node.name}/scale", node.out_scale.numpy(), node.name)
        form.node("Div", [form.converted(node.inputs[0], np.float32, node.name), scale], form.source(node.name))

    def onnx_hint(self, node: Scale) -> Mapping[str, object]:
        """That the division is a node of the graph, which others may read."""
        return {"scale": True}

    def write_real(self, node: Scale, form: RealForm) -> None:
        """Written as Div of the steps, or left out if the sums are in the unit of the logits."""
        form.divide(node.name, node.inputs[0], node.out_scale.numpy())

    def examples(self, random: np.random.Generator) -> Iterator[Example[Scale]]:
        """Cover both types of sums, images and vectors, scales of either sign."""
        for input_type in SUMS:
            for shape in ((4,), (4, 2, 3)):
                scales = random.normal(0, 100, 4).astype(np.float32)
                node = Scale(name="scale", inputs=("x",), out_scale=Tensor.from_array(DType.F32, scales))
                yield Example(node, (sums(input_type, *shape),))


register(ScaleOperation())
