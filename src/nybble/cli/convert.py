"""``nybble convert``: a 4-bit network in 8 bits, and what that changes in each layer."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.model import Json
from nybble.cli.output import print_json, print_table, table

if TYPE_CHECKING:
    from nybble.graph import Graph, Node
    from nybble.graph.convert import Conversion


@dataclass(frozen=True)
class Row:
    """One layer that changes; types are those of input, parameter (where there is one) and output.

    ``unit`` says how many of the new output's units make one of the old. ``error`` is the largest that the rounding
    of a Quantize's factors brings about, relative to the range of its type, or for sums to the result.
    """

    name: str
    op: str
    types_before: list[str]
    types_after: list[str]
    unit: str
    details: list[str]
    error: float | None


def convert(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder or file, or the name of a model.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder to write the converted model to.", show_default=False)
    ],
    bits: Annotated[int, typer.Option("--bits", help="Bits of weights and activations: 8.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a 4-bit model in 8 bits: the same weights and clip ranges, activations in 127 steps.

    A model that has no 4-bit part is copied as it is. OUT may be a model already, which is replaced, but not MODEL.
    """
    if bits not in (4, 8):
        raise WrongUsageError(f"--bits: a network can be converted to 8 bits, not to {bits}")
    from nybble.graph import convert as converting
    from nybble.graph import read_graph, write_graph
    from nybble.models import locate

    source = locate(model)
    if _folder(source) == _folder(out):
        raise CommandError(f"{out}: this is MODEL itself; name another folder for the converted model")
    graph = read_graph(source)
    conversion = converting.convert(graph, bits)
    write_graph(conversion.graph, out)
    rows = _rows(graph, conversion)
    before, after = _parameter_bytes(graph), _parameter_bytes(conversion.graph)
    worst = max(conversion.errors.values(), default=0.0)
    if as_json:
        print_json(
            {
                "model": model,
                "out": str(out),
                "bits": bits,
                "layers": [asdict(row) for row in rows],
                "totals": {
                    "layers": len(conversion.graph),
                    "changed": len(rows),
                    "parameter_bytes_before": before,
                    "parameter_bytes": after,
                    "largest_error": worst,
                },
            }
        )
        return
    if rows:
        grid = table("layer", "op", "before", "after", "unit", "details", "error", numbers=("unit", "error"))
        for row in rows:
            error = f"{row.error:.1e}" if row.error is not None else ""
            types = (" ".join(row.types_before), " ".join(row.types_after))
            grid.add_row(row.name, row.op, *types, row.unit, ", ".join(row.details), error)
        print_table(grid, lead=("layer", "op", "details"))
        typer.echo(
            f"{len(rows)} of {len(conversion.graph)} layers changed; largest error of a factor {worst:.1e}; "
            f"{before / 1e6:.2f} MB became {after / 1e6:.2f} MB"
        )
    else:
        typer.echo("the model has no 4-bit part: copied as it is")
    typer.echo(f"in {out}")


def _folder(path: Path) -> Path:
    """The folder ``model/`` that a path to a model means, links resolved."""
    path = Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111 - pathlib's raise on a loop of links
    return path / "model" if (path / "model").is_dir() else path


def _rows(graph: Graph, conversion: Conversion) -> list[Row]:
    rows = []
    old = {node.name: node for node in graph}
    for node in conversion.graph:
        before = old.get(node.name)
        unit = conversion.units[node.name]
        row = Row(
            name=node.name,
            op=node.op,
            types_before=_types(graph, before) if before is not None else [],
            types_after=_types(conversion.graph, node),
            unit=str(unit),
            details=_details(before, node),
            error=conversion.errors.get(node.name),
        )
        if row.types_before != row.types_after or row.details or unit != Fraction(1):
            rows.append(row)
    return rows


def _types(graph: Graph, node: Node) -> list[str]:
    """Element types of inputs, weight or factors, and output."""
    parameter = getattr(node, "weight", None) or getattr(node, "factor", None)
    inputs = [graph.values[name].dtype.value for name in node.inputs]
    return [*inputs, *([parameter.dtype.value] if parameter else []), graph.values[node.name].dtype.value]


def _details(before: Node | None, after: Node) -> list[str]:
    """What changes besides types: bias, shift, factors, maximum, scale."""
    from nybble.graph import Tensor

    if before is None:
        return ["added"]
    details = []
    for entry in fields(after):
        old, new = getattr(before, entry.name), getattr(after, entry.name)
        if old == new or entry.name in ("weight", "input_type", "output_type"):
            continue
        if isinstance(old, Tensor):
            details.append(f"{entry.name} {_change(old.dtype, new.dtype)}")
        elif entry.name == "inputs":
            details.append(f"reads {' '.join(new)}")
        else:
            details.append(f"{entry.name} {_change(old, new)}")
    return details


def _change(old: object, new: object) -> str:
    return f"{old} to {new}" if old != new else f"{new}, new values"


def _parameter_bytes(graph: Graph) -> int:
    from nybble.graph import Tensor

    return sum(value.nbytes for node in graph for value in vars(node).values() if isinstance(value, Tensor))
