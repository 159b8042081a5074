"""What ``nybble export`` and ``nybble import`` print about a file's agreement with the engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nybble.cli.photos import end, inputs_of, report_left_out

if TYPE_CHECKING:
    import onnx

    from nybble.bench.agreement import Agreement
    from nybble.graph import Graph
    from nybble.graph.types import Array
    from nybble.images import LeftOut

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


@dataclass(frozen=True)
class Measured:
    """The agreement, optimised and not, or why it was not measured; and how the photos were read."""

    runs: tuple[Agreement, ...] = ()
    why_not: str | None = None
    exif: bool = False
    left_out: LeftOut | None = None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runs": [asdict(run) for run in self.runs],
            "not_measured": self.why_not,
            "exif": self.exif,
            "left_out": self.left_out.to_json() if self.left_out else [],
        }

    def say(self) -> None:
        """Print it, one line each."""
        if self.why_not is not None:
            typer.echo(f"agreement with the engine not measured: {self.why_not}")
        for run in self.runs:
            typer.echo(str(run))

    def end(self) -> None:
        """End the command with the exit code that says so, where photos were left out."""
        if self.left_out:
            end(self.left_out)


@dataclass(frozen=True)
class Inputs:
    """Integer inputs (N, C, H, W) to compare the answers on, or why there are none; and how photos were read."""

    values: Array | None = None
    why_not: str | None = None
    exif: bool = False
    left_out: LeftOut | None = None


def read_inputs(graph: Graph, *, check: bool, images: Path | None, limit: int, exif: bool) -> Inputs:
    """Read the inputs before anything is written: photos that cannot be read are an error.

    Parameters
    ----------
    graph : Graph
    check, images, limit, exif
        The options :data:`Check`, :data:`CheckImages`, :data:`CheckLimit` and :data:`Exif`.
    """
    from nybble.bench.agreement import MISSING, is_available

    if not check:
        return Inputs(why_not="--no-check")
    if not is_available():
        return Inputs(why_not=MISSING)
    if len(graph.inputs) != 1:
        return Inputs(why_not=f"the network has {len(graph.inputs)} inputs")
    values, left_out = inputs_of(graph, images, limit, exif=exif)
    report_left_out(left_out)
    return Inputs(values, exif=exif, left_out=left_out)


def measured(graph: Graph, model: onnx.ModelProto, unit: float, inputs: Inputs) -> Measured:
    """Run a file in ONNX Runtime beside the engine.

    Parameters
    ----------
    graph : Graph
    model : onnx.ModelProto
    unit : float
        What a step of the graph's input is in the model's float input.
    inputs : Inputs
    """
    import numpy as np
    from onnx import TensorProto, helper

    if inputs.values is None:
        return Measured(why_not=inputs.why_not)
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind not in (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8):
        why_not = f"ONNX Runtime takes no {TensorProto.DataType.Name(kind)} input from Python"
        return Measured((), why_not, inputs.exif, inputs.left_out)
    values = inputs.values
    scaled = values.astype(np.float32) * np.float32(unit) if kind == TensorProto.FLOAT else values
    feed = scaled.astype(helper.tensor_dtype_to_np_dtype(kind))
    from onnxruntime.capi import onnxruntime_pybind11_state as refusals

    from nybble.bench.agreement import measure

    try:
        return Measured(measure(graph, model, values, feed), None, inputs.exif, inputs.left_out)
    except (refusals.Fail, refusals.InvalidGraph, refusals.NotImplemented, refusals.InvalidArgument) as error:
        reason = " ".join(str(error).split())[:200]
        return Measured((), f"ONNX Runtime refuses the file: {reason}", inputs.exif, inputs.left_out)
