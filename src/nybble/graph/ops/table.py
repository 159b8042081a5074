"""Any function of one activation code, as a table of its values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.folder import ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile
from nybble.graph.nodes import Node
from nybble.graph.ops.base import Example, Operation
from nybble.graph.ops.checks import check_input_type
from nybble.graph.ops.examples import activation
from nybble.graph.ops.forms import ExactForm, Form, RealForm
from nybble.graph.ops.registry import register
from nybble.graph.ops.texts import extents
from nybble.graph.ops.units import WIDER, Unit, rounded
from nybble.graph.tensor import Tensor
from nybble.graph.types import ACTIVATIONS, Array, DType
from nybble.graph.value_type import ValueType

if TYPE_CHECKING:
    from fractions import Fraction

_FUNCTION = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")


def table_entries(dtype: DType) -> int:
    """Entries of a table for an activation type: one for each of its codes."""
    return dtype.maximum - dtype.minimum + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Table(Node):
    """``table[x - minimum of input_type]``, element by element: any function of one code.

    ``table`` is s16, (codes of ``input_type``), in ascending order of the codes: the first entry is for the type's
    minimum. Each entry is in the range of ``output_type``. ``function`` names the function for people, or is empty; it
    has no effect on results.
    """

    input_type: DType
    output_type: DType
    table: Tensor
    function: str = ""


class TableOperation(Operation[Table]):
    """Lookup of codes."""

    node = Table
    unit = Unit.OWN
    format_version = 2

    def infer(self, node: Table, inputs: Sequence[ValueType]) -> ValueType:
        """The result has the declared type. Its magnitude is that of the entries for codes that the input can have."""
        (source,) = inputs
        check_input_type(node, source, node.input_type, ACTIVATIONS)
        if node.output_type not in ACTIVATIONS:
            raise GraphError(f"a table cannot give {node.output_type}", node=node.name, field="compute_mode")
        if node.function and not _FUNCTION.fullmatch(node.function):
            raise GraphError(
                "function is not 1 to 64 printable ASCII characters without a space at either end",
                node=node.name,
                field="function",
            )
        if node.table.dtype is not DType.S16:
            raise GraphError(f"table is {node.table.dtype}, not s16", node=node.name, field="table")
        count = table_entries(node.input_type)
        if node.table.shape != (count,):
            raise GraphError(
                f"table has shape {extents(node.table.shape)}, but {node.input_type} has {count} codes",
                node=node.name,
                field="table",
            )
        entries = node.table.numpy().astype(np.int64)
        low, high = int(entries.min()), int(entries.max())
        if low < node.output_type.minimum or high > node.output_type.maximum:
            raise GraphError(
                f"table has entries {low}..{high}, beyond {node.output_type}", node=node.name, field="table"
            )
        codes = np.arange(node.input_type.minimum, node.input_type.maximum + 1)
        possible = entries[np.abs(codes) <= source.magnitude]
        return ValueType(node.output_type, source.shape, int(np.abs(possible).max()))

    def compute(self, node: Table, types: Sequence[ValueType], values: Sequence[Array]) -> Array:
        """Looks up each element."""
        (source,) = values
        entries = node.table.numpy().astype(node.output_type.storage)
        return entries[source.astype(np.intp) - node.input_type.minimum]

    def read(self, folder: ModelFolder, file: LayerFile, name: str, inputs: tuple[str, ...]) -> Table:
        """``function`` is optional."""
        input_type, output_type = file.mode(2)
        function = ""
        if file.has("function"):
            function = file.text("function")
            if not function:
                raise file.error("function must name something, or be left out", "function")
        reference = file.tensor("table", (DType.S16,), 1)
        return Table(
            name=name,
            inputs=inputs,
            input_type=input_type,
            output_type=output_type,
            table=folder.tensor(file, "table", reference, reference.shape),
            function=function,
        )

    def write(self, node: Table, output: LayerOutput, sources: Sequence[DType]) -> None:
        """Write ``function`` only if there is one."""
        output.text.add("compute_mode", f"{node.input_type}{node.output_type}")
        if node.function:
            output.text.add("function", node.function)
        output.add_tensor("table", node.table, node.table.shape)

    def converted(self, node: Table, input_type: DType | None, ratio: Fraction) -> Table:
        """Old entries in units of the wider type, linearly interpolated between the known codes.

        ``function`` is only a name, so that nothing finer is known. Results are rounded once, halves away from zero.
        """
        from fractions import Fraction

        input_type = input_type or node.input_type
        if ratio == 1 and input_type is node.input_type:
            return node
        output_type = node.output_type if ratio == 1 else WIDER[node.output_type]
        steps = Fraction(1)
        if input_type is not node.input_type:
            steps = Fraction(input_type.maximum, node.input_type.maximum)
        old = [int(entry) for entry in node.table.numpy()]
        new = []
        for code in range(input_type.minimum, input_type.maximum + 1):
            position = min(max(code / steps - node.input_type.minimum, Fraction(0)), Fraction(len(old) - 1))
            left = int(position)
            right = min(left + 1, len(old) - 1)
            value = rounded((old[left] + (old[right] - old[left]) * (position - left)) * ratio)
            new.append(min(max(value, output_type.minimum), output_type.maximum))
        table = Tensor.from_array(DType.S16, np.array(new, np.int16))
        return replace(node, input_type=input_type, output_type=output_type, table=table)

    def narrowed(self, node: Table, dtype: DType) -> Table:
        """The entries are clipped."""
        entries = np.clip(node.table.numpy(), dtype.minimum, dtype.maximum)
        return replace(node, output_type=dtype, table=Tensor.from_array(DType.S16, entries))

    def write_exact(self, node: Table, form: ExactForm) -> None:
        """Written as Gather."""
        codes = form.converted(node.inputs[0], np.int32, node.name)
        _gather(node, form, codes, node.table.numpy(), form.source(node.name))
        form.is_float[node.name] = True

    def write_qdq(self, node: Table, form: RealForm) -> None:
        """Gather of real numbers by codes, which DequantizeLinear has made whole numbers, stored again."""
        codes = form.cast(form.source(node.inputs[0]), np.int32, f"{node.name}/codes")
        entries = node.table.numpy() * form.units[node.name][0]
        form.store(node.name, _gather(node, form, codes, entries, form.unstored(node.name)))

    def write_float(self, node: Table, form: RealForm) -> None:
        """Written as Gather by the nearest code: the function is not interpolated between codes."""
        steps = form.in_units(node.inputs[0], np.ones_like(form.units[node.inputs[0]]), node.name)
        nearest = form.node("Round", [steps], f"{node.name}/nearest")
        low, high = node.input_type.minimum, node.input_type.maximum
        bounds = [form.constant(f"{node.name}/low", low), form.constant(f"{node.name}/high", high)]
        clipped = form.node("Clip", [nearest, *bounds], f"{node.name}/clipped")
        codes = form.cast(clipped, np.int32, f"{node.name}/codes")
        _gather(node, form, codes, node.table.numpy() * form.units[node.name][0], node.name)

    def onnx_hint(self, node: Table) -> Mapping[str, Any]:
        """Keep the function's name."""
        return {"function": node.function} if node.function else {}

    def details(self, node: Table) -> Sequence[str]:
        """Show the function's name."""
        return (node.function,) if node.function else ()

    def examples(self, random: np.random.Generator) -> Iterator[Example[Table]]:
        """Cover every pair of types, over the whole range; images and vectors, named or not."""
        for input_type in ACTIVATIONS:
            for output_type in ACTIVATIONS:
                entries = random.integers(
                    output_type.minimum, output_type.maximum, table_entries(input_type), endpoint=True
                )
                entries[0], entries[-1] = output_type.minimum, output_type.maximum
                node = Table(
                    name="table",
                    inputs=("x",),
                    input_type=input_type,
                    output_type=output_type,
                    table=Tensor.from_array(DType.S16, entries),
                    function="SiLU" if output_type.is_signed else "",
                )
                yield Example(node, (activation(input_type, *((3, 4, 2) if input_type.is_signed else (7,))),))
        # If the input reaches only a part of the codes, the result is bounded.
        node = Table(
            name="table",
            inputs=("x",),
            input_type=DType.S8,
            output_type=DType.S8,
            table=Tensor.from_array(DType.S16, np.arange(-128, 128)),
            function="Hard Swish / 2",
        )
        yield Example(node, (ValueType(DType.S8, (2, 3, 3), 5),))


def _gather(node: Table, form: Form, codes: str, entries: Array, output: str) -> str:
    """Entries in float32 by codes in int32."""
    if node.input_type.is_signed:
        first = form.constant(f"{node.name}/first", -node.input_type.minimum, np.int32)
        codes = form.node("Add", [codes, first], f"{node.name}/index")
    return form.node("Gather", [form.constant(f"{node.name}/table", entries), codes], output, name=node.name, axis=0)


register(TableOperation())
