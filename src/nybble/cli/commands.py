"""The commands: where each is, its line in `nybble --help`, and an example. Nothing is imported before it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand

from nybble.cli.coercion import Command


class Entry(NamedTuple):
    """A command, or a group of commands.

    Attributes
    ----------
    place : str
        ``MODULE:NAME`` of its function or of its ``typer.Typer``, below ``nybble.cli``.
    summary : str
        Its line in the list of commands, at most 58 characters.
    example : str
        Behind its help; empty for a group.
    """

    place: str
    summary: str
    example: str = ""


#: Sections of `nybble --help`, and their commands by name.
SECTIONS: dict[str, dict[str, Entry]] = {
    "Run networks": {
        "demo": Entry(
            "demo:demo", "Classify sample photos, measure speed, write a page.", "nybble demo --out demo.html"
        ),
        "classify": Entry("classify:classify", "Name what photos show.", "nybble classify cat.jpg coffee.png"),
        "predict": Entry(
            "predict:predict",
            "Boxes, masks, text and other answers, by the task.",
            "nybble predict fastestdet street.jpg --save drawn",
        ),
        "batch": Entry(
            "batch:batch",
            "Classify millions of photos into files; resumable.",
            "nybble batch nvidia-resnet50-int4 photos --out results --resume",
        ),
        "serve": Entry(
            "serve:serve",
            "Serve models over REST and gRPC.",
            "nybble serve efficientnet-lite0 resnet=nvidia-resnet50-int4 --port 8000",
        ),
    },
    "Models": {
        "models": Entry("models:models", "List the models: bundled, published, in the cache.", "nybble models"),
        "fetch": Entry("fetch:fetch", "Download a published model.", "nybble fetch nvidia-resnet50-int4"),
        "inspect": Entry(
            "inspect:inspect", "List the layers, types and sizes of a model.", "nybble inspect nvidia-resnet50-int4"
        ),
        "quantize": Entry(
            "quantize:quantize",
            "Quantize a trained network to 4 or 8 bits.",
            "nybble quantize torchvision:resnet18@resnet18.pth --images photos --out resnet18-int4",
        ),
        "convert": Entry(
            "convert:convert",
            "The same network in other bit widths.",
            "nybble convert nvidia-resnet50-int4 resnet50-int8 --bits 8",
        ),
        "import": Entry(
            "import_:import_",
            "A quantized ONNX file as a model.",
            "nybble import resnet50-int8.onnx resnet50-int8 --imagenet",
        ),
        "export": Entry(
            "export:export", "A model as an ONNX file.", "nybble export nvidia-resnet50-int4 resnet50-int8.onnx"
        ),
        "pack": Entry("pack:pack", "A model folder as one file.", "nybble pack resnet18-int4 resnet18-int4.zip"),
        "calibrate-ensemble": Entry(
            "calibrate_ensemble:calibrate_ensemble",
            "Combine networks: their mean, or a cascade.",
            "nybble calibrate-ensemble efficientnet-lite0 nvidia-resnet50-int4 --images photos --out both.toml",
        ),
    },
    "Measure": {
        "evaluate": Entry(
            "evaluate:evaluate",
            "Accuracy on labelled photos.",
            "nybble evaluate nvidia-resnet50-int4 --images photos --predictions predictions.csv",
        ),
        "verify": Entry(
            "verify:verify",
            "Compare the engine with the integer reference.",
            "nybble verify nvidia-resnet50-int4 --images photos --limit 10 --layers",
        ),
        "bench": Entry(
            "bench:bench",
            "Speed beside other engines.",
            "nybble bench nvidia-resnet50-int4 --images photos --against onnxruntime --against openvino",
        ),
        "profile": Entry(
            "profile:profile",
            "Time, speed and zeros of every step.",
            "nybble profile nvidia-resnet50-int4 --images photos --trace trace.json",
        ),
        "tune": Entry(
            "tune:tune",
            "Find and store the fastest kernels for this machine.",
            "nybble tune nvidia-resnet50-int4 --images photos --limit 64",
        ),
        "mlperf": Entry("mlperf:mlperf", "Image classification under MLPerf's LoadGen."),
        "report": Entry(
            "report:report", "Results of these commands on one page.", "nybble report results --out report.html"
        ),
    },
    "This machine": {
        "doctor": Entry("doctor:doctor", "What this installation and this machine can do.", "nybble doctor --json"),
        "gpu": Entry("gpu:gpu", "GPUs, and kernels compiled for them."),
    },
}
COMMANDS: dict[str, Entry] = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


def summarized(name: str) -> TyperCommand | None:
    """A stand-in for a command in lists of commands; ``None`` for an unknown name."""
    entry = COMMANDS.get(name)
    return None if entry is None else TyperCommand(name, short_help=entry.summary)


def imported(name: str) -> Any:
    """The command itself."""
    entry = COMMANDS[name]
    module, _, attribute = entry.place.partition(":")
    found = getattr(import_module(f"nybble.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        alone.command(name, cls=Command, epilog=f"Example: {entry.example}")(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command
