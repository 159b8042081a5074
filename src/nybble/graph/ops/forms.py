"""The interface with which an operation writes its part of an ONNX model. It does not need the package ``onnx``.

There are three forms of model. The *exact* one has the reference's integers, carried as float32 or int32. The *QDQ* and
the *float* one have real numbers: each graph value has a *unit*, the real value of one of its integer steps by channel.
ONNX values that carry a graph value are found by its name; other values of a node are named ``NODE/PART``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from nybble.graph.ops.roles import Requantization, Weighted
from nybble.graph.types import Array
from nybble.graph.value_type import ValueType

#: Integers up to here are exact in float32, so that sums that stay below are exact in any order.
EXACT = 1 << 24


class Form(Protocol):
    """The methods of all forms."""

    @property
    def opset(self) -> int:
        """The version of ONNX operators."""
        ...

    @property
    def values(self) -> Mapping[str, ValueType]:
        """Type, shape and largest magnitude of each graph value."""
        ...

    def node(
        self, op: str, inputs: Sequence[str], output: str, *, name: str | None = None, **attributes: object
    ) -> str:
        """Append an ONNX node, called like its output unless it has a name; returns the output."""
        ...

    def constant(self, label: str, values: ArrayLike, dtype: type[Any] = np.float32) -> str:
        """Add a constant; one of the same label is taken to be the same. Returns the label."""
        ...

    def channels(self, label: str, values: Array, like: str, dtype: type[Any] = np.float32) -> str:
        """Add a constant of one number per channel, of a shape that broadcasts to the graph value ``like``."""
        ...

    def cast(self, source: str, dtype: type[Any], label: str, *, name: str | None = None) -> str:
        """The same numbers in another element type. Returns the label."""
        ...

    def source(self, name: str) -> str:
        """The ONNX value that carries a graph value."""
        ...


class ExactForm(Form, Protocol):
    """Equal to the reference in every value: write the node's integers under ``source(node.name)``.

    Attributes
    ----------
    is_float : mapping of str to bool
        Whether a graph value is carried as float32, else it is as int32. For the node that is being written it says
        whether float32 holds every possible result; the operation may change it if it has written another type.
    """

    is_float: MutableMapping[str, bool]

    def converted(self, name: str, dtype: type[Any], reader: str) -> str:
        """A graph value that the node ``reader`` reads, in another element type if it is not in that already."""
        ...

    def clip(self, source: str, low: int, high: int, dtype: type[Any], label: str) -> str:
        """Clip between two numbers. Returns the label."""
        ...

    def report_wide(self, name: str, why: str) -> None:
        """Record that a node is not computed in float32, but in a wider type."""
        ...


class RealForm(Form, Protocol):
    """Real numbers: write the node's value, in its unit, as an ONNX value called like the node.

    Attributes
    ----------
    units : mapping of str to array
        The real value of one integer step of each graph value, float64 (channels).
    transposed : bool
        Whether the weight of a Gemm is written (in, out), as quantizers of float models expect it.
    """

    units: Mapping[str, Array]
    transposed: bool

    def rename(self, name: str, source: str) -> None:
        """Let an ONNX value that is there carry a graph value; nothing is written."""
        ...

    def in_units(self, name: str, unit: Array, reader: str) -> str:
        """A graph value that the node ``reader`` reads, converted to a unit if it is not in it already."""
        ...

    def clip(self, source: str, low: Array, high: Array, name: str) -> str:
        """Clip between two real numbers per channel; the output, which is returned, is called ``name``."""
        ...

    def weights(self, node: Weighted, *, groups: int = 1, transpose: bool = False) -> list[str]:
        """The ONNX values that carry the weight and the bias of a layer."""
        ...

    def requantize(self, node: Requantization) -> None:
        """Write a requantization, to an activation or into a sum."""
        ...

    def requantize_by_sign(self, name: str, source: str, factor: Array, negative_factor: Array, shift: int) -> None:
        """Write a requantization of the graph value ``source`` that has other factors below 0, in the QDQ form."""
        ...

    def relu(self, name: str, source: str, maximum: int | None) -> None:
        """Write a ReLU; the maximum is in steps of the value."""
        ...

    def divide(self, name: str, source: str, divisor: Array) -> None:
        """Write the division of a graph value, in steps, by a real number per channel: a real result."""
        ...

    def unstored(self, name: str) -> str:
        """The name for the output of a node that computes an activation, before :meth:`store` makes it one."""
        ...

    def store(self, name: str, source: str, *, upward: float = 0.0) -> None:
        """Make an activation of real numbers. ``upward`` is added before rounding, to decide where halves go."""
        ...


#: Appends the ONNX node of a layer: its inputs, the name of its output, which is returned.
Product = Callable[[list[str], str], str]


def write_exact_sums(form: ExactForm, node: Weighted, source: str, product: Product) -> None:
    """Write the sums of a layer: in one piece where float32 holds them all, else in pieces that are added as int32.

    Parameters
    ----------
    form : ExactForm
    node : Weighted
    source : str
        The ONNX value that the layer reads.
    product : callable
        Writes Conv or Gemm of ``source``, a weight and perhaps a bias.
    """
    result = form.source(node.name)
    bias = node.bias.numpy() if node.bias is not None else None
    weight = node.weight.numpy()

    def piece(values: Array, summand: Array | None, output: str) -> str:
        inputs = [source, form.constant(f"{output}/weight", values)]
        if summand is not None:
            inputs.append(form.constant(f"{output}/bias", summand))
        return product(inputs, output)

    if form.is_float[node.name]:
        piece(weight, bias, result)
        return
    pieces = _pieces(weight, form.values[node.inputs[0]].magnitude)
    reached = form.values[node.name].magnitude
    form.report_wide(node.name, f"sums reach {reached}: added as int32 in pieces: {len(pieces)}")
    total = ""
    for index, values in enumerate(pieces):
        label = f"{node.name}/piece{index}"
        part = form.cast(piece(values, None, label), np.int32, f"{label}/sums")
        total = form.node("Add", [total, part], f"{label}/total") if total else part
    if bias is not None:
        constant = form.channels(f"{node.name}/bias", bias, node.name, np.int32)
        total = form.node("Add", [total, constant], f"{node.name}/biased")
    form.node("Identity", [total], result, name=node.name)


def write_rounded_mean(form: ExactForm, name: str, sums: str, count: Array, offset: int) -> None:
    """Write ``floor((2 * sums + count) / (2 * count))`` as the node ``name``.

    Parameters
    ----------
    form : ExactForm
    name : str
    sums : str
        An ONNX value of integers.
    count : array
        int64, of a shape that broadcasts to the sums.
    offset : int
        No result is below its negative: division truncates, so what it divides is kept positive.
    """
    value = form.cast(sums, np.int64, f"{name}/integers")
    value = form.node("Mul", [value, form.constant(f"{name}/two", 2, np.int64)], f"{name}/twice")
    raised = form.constant(f"{name}/count", count * (1 + 2 * offset), np.int64)
    value = form.node("Add", [value, raised], f"{name}/raised")
    twice = form.constant(f"{name}/twocount", 2 * count, np.int64)
    value = form.node("Div", [value, twice], f"{name}/mean")
    lowered = form.constant(f"{name}/offset", offset, np.int64)
    value = form.node("Sub", [value, lowered], f"{name}/lowered")
    form.cast(value, np.float32, form.source(name))


def _pieces(weight: Array, magnitude: int) -> list[Array]:
    """The weight in summands, zero but for a run of its taps, whose sums all stay below the limit."""
    rows = weight.reshape(len(weight), -1)
    flat = np.abs(rows.astype(np.int64)) * magnitude
    pieces = []
    begin, total = 0, np.zeros(len(flat), np.int64)
    for end in range(flat.shape[1] + 1):
        if end == flat.shape[1] or np.any(total + flat[:, end] > EXACT):
            piece = np.zeros_like(rows)
            piece[:, begin:end] = rows[:, begin:end]
            pieces.append(piece.reshape(weight.shape))
            begin, total = end, np.zeros(len(flat), np.int64)
        if end < flat.shape[1]:
            total = total + flat[:, end]
    return pieces
