"""What ``nybble export`` and ``nybble import`` say of a file's agreement with the engine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import onnx

    from nybble.bench.agreement import Agreement
    from nybble.graph import Graph

Check = Annotated[
    bool,
    typer.Option(
        "--check/--no-check",
        help="Run the file in ONNX Runtime, where that is installed, and compare its answers with the engine's.",
    ),
]
CheckImages = Annotated[
    Path | None,
    typer.Option("--images", metavar="PHOTOS", help="Photos to compare the answers on.", show_default="seeded noise"),
]
CheckLimit = Annotated[int, typer.Option("--limit", min=1, help="Inputs to compare the answers on.")]
#: Inputs where the user does not say how many.
INPUTS = 16


def measured(
    graph: Graph, model: onnx.ModelProto, unit: float, images: Path | None, limit: int
) -> tuple[Agreement, ...] | str:
    """The agreement, optimised and not, or why it was not measured.

    Parameters
    ----------
    graph : Graph
    model : onnx.ModelProto
    unit : float
        What a step of the graph's input is in the model's float input.
    images : Path or None
    limit : int
    """
    import numpy as np
    from onnx import TensorProto, helper

    from nybble.bench.agreement import NOT_MEASURED, is_available, measure
    from nybble.cli.photos import inputs_of, report_left_out

    if not is_available():
        return NOT_MEASURED
    if len(graph.inputs) != 1:
        return f"not measured: the network has {len(graph.inputs)} inputs"
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8):
        return f"not measured: ONNX Runtime takes no {TensorProto.DataType.Name(kind)} input from Python"
    inputs, left_out = inputs_of(graph, images, limit, exif=False)
    report_left_out(left_out)
    scaled = inputs.astype(np.float32) * np.float32(unit) if kind == TensorProto.FLOAT else inputs
    feed = scaled.astype(helper.tensor_dtype_to_np_dtype(kind))
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    try:
        return measure(graph, model, inputs, feed)
    except (refusals.Fail, refusals.InvalidGraph, refusals.NotImplemented, refusals.InvalidArgument) as error:
        reason = " ".join(str(error).split())[:200]
        return f"not measured: ONNX Runtime refuses the file: {reason}"


def document(found: tuple[Agreement, ...] | str | None) -> Any:
    """For JSON: a list of objects; ``null`` where nothing was compared."""
    return [asdict(entry) for entry in found] if isinstance(found, tuple) else None


def say(found: tuple[Agreement, ...] | str | None) -> None:
    """Print it, one line each."""
    if isinstance(found, str):
        typer.echo(f"agreement with the engine {found}")
    for entry in found if isinstance(found, tuple) else ():
        typer.echo(str(entry))
