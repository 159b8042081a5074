"""``nybble inspect``: what a model consists of, one row per layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from nybble.cli.model import Json, Model
from nybble.cli.output import print_json, print_table, table

if TYPE_CHECKING:
    from nybble.graph import Graph, Node


@dataclass(frozen=True)
class Row:
    """One layer. Shapes are of one image, without batch; bytes as the model folder stores them."""

    name: str
    op: str
    inputs: list[str]
    input_types: list[str]
    input_shapes: list[list[int]]
    output_type: str
    output_shape: list[int]
    attributes: str
    weight_type: str | None
    weight_shape: list[int] | None
    macs: int
    weight_bytes: int
    parameter_bytes: int


def inspect(model: Model = None, as_json: Json = False) -> None:
    """List the layers of a model: shapes, types, multiply-accumulates, bytes.

    Bytes are those of a layer's weights, biases, factors and scales in the model folder, where two 4-bit weights share
    one byte.
    """
    from nybble.graph import read_graph
    from nybble.models import find

    chosen = find(model)
    graph = read_graph(chosen.path)
    rows = [_row(graph, node) for node in graph]
    totals = {
        "layers": len(rows),
        "macs": sum(row.macs for row in rows),
        "weight_bytes": sum(row.weight_bytes for row in rows),
        "parameter_bytes": sum(row.parameter_bytes for row in rows),
    }
    if as_json:
        print_json(
            {
                "model": chosen.name,
                "inputs": [
                    {"name": entry.name, "type": entry.dtype.value, "shape": list(entry.shape)}
                    for entry in graph.inputs
                ],
                "outputs": list(graph.outputs),
                "task": None if graph.task is None else graph.task.kind,
                "on_host": _on_host(graph),
                "layers": [asdict(row) for row in rows],
                "totals": totals,
            }
        )
        return
    shown = {node.name: _sources(graph, node) for node in graph}
    grid = table("layer", "op", "input", "output", "weights", "details", "MACs", "bytes", numbers=("MACs", "bytes"))
    for entry in graph.inputs:
        grid.add_row(entry.name, "input", "", _tensor(entry.dtype.value, entry.shape))
    for row in rows:
        weights = _tensor(row.weight_type, row.weight_shape) if row.weight_type and row.weight_shape else ""
        numbers = (f"{value:,}" if value else "" for value in (row.macs, row.parameter_bytes))
        output = _tensor(row.output_type, row.output_shape)
        grid.add_row(row.name, row.op, shown[row.name], output, weights, row.attributes, *numbers)
    grid.add_section()
    grid.add_row("total", "", "", "", "", "", f"{totals['macs']:,}", f"{totals['parameter_bytes']:,}")
    print_table(grid, lead=("layer", "op", "details"))
    outputs = ", ".join(
        f"{name} {_tensor(graph.values[name].dtype.value, graph.values[name].shape)}" for name in graph.outputs
    )
    typer.echo(f"task {'not stated' if graph.task is None else graph.task.kind}, outputs {outputs}")
    on_host = _on_host(graph)
    if on_host:
        typer.echo(f"in real numbers, on the host: {', '.join(on_host)}")
    typer.echo(
        f"{len(rows)} layers, {totals['macs'] / 1e9:.3f} GMAC per image, {totals['parameter_bytes'] / 1e6:.2f} MB "
        f"of which weights {totals['weight_bytes'] / 1e6:.2f} MB"
    )


def _on_host(graph: Graph) -> list[str]:
    """The layers that compute real numbers behind the network's integers, in NumPy."""
    from nybble.graph.ops import operation_of

    found = ((node, operation_of(node)) for node in graph)
    return [node.name for node, operation in found if operation is not None and operation.on_host]


def _row(graph: Graph, node: Node) -> Row:
    from nybble.graph import Tensor
    from nybble.graph.macs import macs
    from nybble.graph.ops import operation_of

    operation = operation_of(node)
    constants = {name: value for name, value in vars(node).items() if isinstance(value, Tensor)}
    weight = constants.get("weight")
    output = graph.values[node.name]
    sources = [graph.values[name] for name in node.inputs]
    return Row(
        name=node.name,
        op=node.op,
        inputs=list(node.inputs),
        input_types=[source.dtype.value for source in sources],
        input_shapes=[list(source.shape) for source in sources],
        output_type=output.dtype.value,
        output_shape=list(output.shape),
        attributes=", ".join(operation.details(node)) if operation is not None else "",
        weight_type=weight.dtype.value if weight else None,
        weight_shape=list(weight.shape) if weight else None,
        macs=macs(graph, node),
        weight_bytes=weight.nbytes if weight else 0,
        parameter_bytes=sum(constant.nbytes for constant in constants.values()),
    )


def _sources(graph: Graph, node: Node) -> str:
    """Types and shapes of what a layer reads, as its operation shows them."""
    from nybble.graph.ops import operation_of

    operation = operation_of(node)
    return "" if operation is None else operation.shown_inputs([graph.values[name] for name in node.inputs])


def _tensor(dtype: str, shape: tuple[int, ...] | list[int]) -> str:
    return f"{dtype} {'x'.join(map(str, shape))}"
