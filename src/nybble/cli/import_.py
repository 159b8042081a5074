"""``nybble import``: an ONNX QDQ model as a model folder, and what its scales became."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nybble.cli.agreement import INPUTS, Check, CheckImages, CheckLimit, measured, read_inputs
from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.model import Json
from nybble.cli.output import print_json, print_table, table
from nybble.cli.photos import Exif

if TYPE_CHECKING:
    import onnx

#: Rows of the table of errors.
SHOWN = 10


def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX model in QDQ form.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write the model to.", show_default=False)],
    imagenet: Annotated[
        bool,
        typer.Option(
            "--imagenet",
            help="The input is a photo normalised with ImageNet's mean and deviation (nybble's own exports say so).",
        ),
    ] = False,
    resize: Annotated[
        int | None,
        typer.Option(
            "--resize", min=1, help="With --imagenet: the short side before the crop.", show_default="8/7 of the input"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="NAME", help="The output to keep, if the model has several."),
    ] = None,
    check: Check = True,
    images: CheckImages = None,
    limit: CheckLimit = INPUTS,
    exif: Exif = False,
    as_json: Json = False,
) -> None:
    """Read an ONNX model that was quantized with QuantizeLinear and DequantizeLinear, in 4 or 8 bits.

    Weights, zero points and types stay as they are; scales become factors and shifts, and what that rounds is reported,
    in steps of each node's result. Types must be symmetric or hold nothing negative: quantize symmetrically.
    Needs `nybble[onnx]`.
    """
    from nybble.graph import write_graph
    from nybble.graph.onnx import import_onnx
    from nybble.graph.onnx.load import load

    if resize is not None and not imagenet:
        raise WrongUsageError("--resize belongs to --imagenet")
    model = load(source)
    made = import_onnx(source, output=output, model=model)
    if len(made.graph.outputs) > 1:
        names = ", ".join(map(repr, made.graph.outputs))
        raise CommandError(f"{source}: has the outputs {names}; choose the one to keep: --output NAME")
    if imagenet:
        made = made.for_photos(resize=resize)
    inputs = read_inputs(made.graph, check=check, images=images, limit=limit, exif=exif)
    write_graph(made.graph, out)
    unit = made.input_scale or 1.0
    found = measured(made.graph, _as_imported(model, output, made.channels_last), unit, inputs)
    largest = made.roundings[0].error if made.roundings else 0.0
    if as_json:
        print_json(
            {
                "source": str(source),
                "out": str(out),
                "operators": made.operators,
                "nodes": len(made.graph),
                "inputs": {entry.name: f"{entry.dtype}{list(entry.shape)}" for entry in made.graph.inputs},
                "input_scale": made.input_scale,
                "channels_last": made.channels_last,
                "preprocessing": made.graph.preprocessing is not None,
                "class_names": made.graph.class_names is not None,
                "largest_error": largest,
                "roundings": [asdict(entry) for entry in made.roundings],
                "notes": list(made.notes),
                "agreement": found.document(),
            }
        )
        found.end()
        return
    if made.roundings:
        grid = table("node", "of its", "error", "", numbers=("error",))
        for entry in made.roundings[:SHOWN]:
            grid.add_row(entry.node, entry.what, f"{entry.error:.1e}", entry.detail)
        print_table(grid)
        more = f", the largest {SHOWN} shown" if len(made.roundings) > SHOWN else ""
        rounded = f"{len(made.roundings)} of {len(made.graph)} nodes were rounded{more}"
        typer.echo(f"{rounded}; largest error {largest:.1e} steps")
    else:
        typer.echo(f"{len(made.graph)} nodes, all scales exact")
    for note in made.notes:
        typer.echo(note)
    if made.graph.preprocessing is None:
        scale = f"a step of the input is {made.input_scale:.6g}; " if made.input_scale else ""
        typer.echo(f"{scale}how photos become the input is not known: --imagenet, or add the file preprocessing")
    found.say()
    typer.echo(f"in {out}")
    found.end()


def _as_imported(model: onnx.ModelProto, output: str | None, channels_last: bool) -> onnx.ModelProto:
    """The model, changed: with the output that an import has, and channels first."""
    import onnx

    kept = [entry for entry in model.graph.output if output in (None, entry.name)]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    if channels_last:
        entry = model.graph.input[0]
        inner = f"{entry.name}/channels_last"
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                node.input[index] = inner if name == entry.name else name
        turn = onnx.helper.make_node("Transpose", [entry.name], [inner], perm=[0, 2, 3, 1])
        model.graph.node.insert(0, turn)
        dims = entry.type.tensor_type.shape.dim
        batch, rows, columns, channels = (dims.pop(0) for _ in range(4))
        dims.extend([batch, channels, rows, columns])
    return model
