"""``nybble export``: a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nybble.cli.agreement import INPUTS, Check, CheckImages, CheckLimit, measured, read_inputs
from nybble.cli.errors import WrongUsageError
from nybble.cli.model import Json
from nybble.cli.output import print_json
from nybble.cli.photos import Exif


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model folder or file, or the name of a model.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The ONNX file to write.", show_default=False)],
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Integer arithmetic in float32 operators: every logit equal to the engine's. Integer input."
        ),
    ] = False,
    is_float: Annotated[bool, typer.Option("--float", help="Real numbers: no rounding, the clipping kept.")] = False,
    check: Check = True,
    images: CheckImages = None,
    limit: CheckLimit = INPUTS,
    exif: Exif = False,
    as_json: Json = False,
) -> None:
    """Write a model as ONNX.

    By default with QuantizeLinear and DequantizeLinear (QDQ) and integer weights, INT4 and UINT4 for four bits: it
    takes normalised photos, and other runtimes run it in integers as far as they can. OUT may be an ONNX file already,
    which is replaced; no other file is. Needs `nybble[onnx]`.
    """
    from nybble.files import ONNX, check_free
    from nybble.graph import read_graph
    from nybble.graph.onnx import Form, export_onnx
    from nybble.graph.onnx.float_form import photo_unit
    from nybble.models import locate

    if exact and is_float:
        raise WrongUsageError("--exact and --float exclude each other")
    if out.exists():
        check_free(out, ONNX)
    form: Form = "exact" if exact else "float" if is_float else "qdq"
    graph = read_graph(locate(model))
    inputs = read_inputs(graph, check=check, images=images, limit=limit, exif=exif)
    made = export_onnx(graph, out, form)
    found = measured(graph, made.model, photo_unit(graph), inputs)
    size = out.stat().st_size
    if as_json:
        print_json(
            {
                "model": model,
                "out": str(out),
                "form": form,
                "opset": made.opset,
                "bytes": size,
                "inputs": made.inputs,
                "outputs": made.outputs,
                "operators": made.operators,
                "wider_than_float32": made.wide,
                "agreement": found.document(),
            }
        )
        found.end()
        return
    count = sum(made.operators.values())
    typer.echo(f"{form}, operator set {made.opset}: {count} nodes, {size / 1e6:.2f} MB; ONNX's checker has passed it")
    typer.echo(", ".join(f"{number} {name}" for name, number in made.operators.items()))
    for title, entries in (("input", made.inputs), ("output", made.outputs)):
        for name, kind in entries.items():
            typer.echo(f"{title} {name}: {kind}")
    for name, why in made.wide.items():
        typer.echo(f"{name} is wider than float32: {why}")
    found.say()
    typer.echo(f"in {out}")
    found.end()
