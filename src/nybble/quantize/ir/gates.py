"""Turns gates that linear layers compute from a flat vector into images of one pixel.

Squeeze and excitation is written with ``nn.Linear`` on pooled values flattened to (N, C), and a view (N, C, 1, 1) of
what comes out. The integer network multiplies images by images of one pixel. So a linear layer that computes a gate
becomes a convolution whose kernel covers its input, and elementwise operations beside it change accordingly.
"""

from __future__ import annotations

from dataclasses import replace

from nybble.quantize.errors import CaptureError
from nybble.quantize.ir.elementwise import Product
from nybble.quantize.ir.float_network import Conv, Dense, Enlarge, FloatNetwork, Norm, Op


def drop_repetitions(network: FloatNetwork) -> None:
    """Let products read gates directly, if these are first repeated along rows and columns.

    Raises
    ------
    CaptureError
        Naming a vector that is repeated and read by something else than a product.
    """
    shapes = network.shapes()
    repeated = {
        op.name: op.inputs[0]
        for op in network
        if isinstance(op, Enlarge) and shapes[op.inputs[0]] in (op.shape[:1], (op.shape[0], 1, 1))
    }
    if not repeated:
        return
    for op in network:
        if isinstance(op, Product):
            value, gate = op.inputs
            if value in repeated:
                value, gate = gate, value
            if gate in repeated and value not in repeated:
                op.inputs = (value, repeated[gate])
    network.prune(network.output)
    for op in network:
        if op.name in repeated and len(shapes[op.inputs[0]]) == 1:
            raise CaptureError(
                f"{op.place or op.name}: a vector can be expanded along rows and columns only to be multiplied"
            )


def make_gates_images(network: FloatNetwork) -> None:
    """Make images of one pixel of vectors that gate images, and of all values that must have the same form.

    Raises
    ------
    CaptureError
        Naming a gate that is computed by something else than linear layers and elementwise operations.
    """
    for gate in [op for op in network if isinstance(op, Product)]:
        shapes = network.shapes()
        value, other = gate.inputs
        if len(shapes[value]) == 3 and len(shapes[other]) == 1:
            changed = {op.name: _as_image(op, shapes) for op in _vectors_beside(network, other, gate)}
            network.ops = [changed.get(op.name, op) for op in network]


def _vectors_beside(network: FloatNetwork, name: str, gate: Op) -> list[Op]:
    """The operations whose results are vectors and must have one form with the gate: those that it is computed from,
    through linear layers too, and those that read any of them element by element.
    """
    by_name, shapes, readers = {op.name: op for op in network}, network.shapes(), network.readers()
    found: dict[str, Op] = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found or len(shapes[name]) != 1:
            continue
        op = found[name] = by_name[name]
        if not isinstance(op, Dense) and not _is_by_element(op):
            raise CaptureError(
                f"{gate.place or gate.name}: multiplies by a gate that {type(op).__name__} makes of vectors; make it "
                "by convolutions of 1x1 on (N, C, 1, 1)"
            )
        waiting += [*op.inputs, *(reader.name for reader in readers[name] if _is_by_element(reader))]
    return list(found.values())


def _is_by_element(op: Op) -> bool:
    return op.is_elementwise or isinstance(op, Norm)


def _as_image(op: Op, shapes: dict[str, tuple[int, ...]]) -> Op:
    shape = (*op.shape, 1, 1)
    if not isinstance(op, Dense):
        return replace(op, shape=shape)
    read = (*shapes[op.inputs[0]], 1, 1)[:3]
    return Conv(
        name=op.name,
        inputs=op.inputs,
        shape=shape,
        place=op.place,
        weight=op.weight.reshape(len(op.weight), *read),
        bias=op.bias,
        norm=op.norm,
    )
