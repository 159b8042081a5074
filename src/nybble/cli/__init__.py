"""The ``nybble`` command: one file a command; what is heavy is imported only by the command that needs it."""

from __future__ import annotations

from typing import Annotated

import typer

from nybble.cli.batch import batch
from nybble.cli.bench import bench
from nybble.cli.calibrate_ensemble import calibrate_ensemble
from nybble.cli.classify import classify
from nybble.cli.convert import convert
from nybble.cli.demo import demo
from nybble.cli.doctor import doctor
from nybble.cli.evaluate import evaluate
from nybble.cli.export import export
from nybble.cli.fetch import fetch
from nybble.cli.gpu import gpu
from nybble.cli.group import Group
from nybble.cli.import_ import import_
from nybble.cli.inspect import inspect
from nybble.cli.mlperf import mlperf
from nybble.cli.predict import predict
from nybble.cli.profile import profile
from nybble.cli.quantize import quantize
from nybble.cli.report import report
from nybble.cli.serve import serve
from nybble.cli.tune import tune
from nybble.cli.verify import verify

app = typer.Typer(
    cls=Group,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="Example: nybble demo --out demo.html")(demo)
app.command(epilog="Example: nybble fetch nvidia-resnet50-int4")(fetch)
app.command(epilog="Example: nybble classify cat.jpg coffee.png")(classify)
app.command(epilog="Example: nybble predict fastestdet street.jpg --save drawn")(predict)
app.command(epilog="Example: nybble evaluate nvidia-resnet50-int4 --images photos --predictions predictions.csv")(
    evaluate
)
app.command(epilog="Example: nybble verify nvidia-resnet50-int4 --images photos --limit 10 --layers")(verify)
app.command(epilog="Example: nybble inspect nvidia-resnet50-int4")(inspect)
app.command(epilog="Example: nybble convert nvidia-resnet50-int4 resnet50-int8 --bits 8")(convert)
app.command(epilog="Example: nybble export nvidia-resnet50-int4 resnet50-int4.onnx")(export)
app.command(name="import", epilog="Example: nybble import resnet50-int8.onnx resnet50-int8 --imagenet")(import_)
app.command(epilog="Example: nybble profile nvidia-resnet50-int4 --images photos --trace trace.json")(profile)
app.command(epilog="Example: nybble tune nvidia-resnet50-int4 --images photos --limit 64")(tune)
app.command(
    epilog="Example: nybble bench nvidia-resnet50-int4 --images photos --against onnxruntime --against openvino"
)(bench)
app.command(epilog="Example: nybble quantize torchvision:resnet18@resnet18.pth --images photos --out resnet18-int4")(
    quantize
)
app.command(epilog="Example: nybble serve efficientnet-lite0 resnet=nvidia-resnet50-int4 --port 8000")(serve)
app.command(epilog="Example: nybble batch nvidia-resnet50-int4 photos --out results --resume")(batch)
app.command(
    epilog="Example: nybble calibrate-ensemble efficientnet-lite0 nvidia-resnet50-int4 --images photos --out both.toml"
)(calibrate_ensemble)
app.add_typer(mlperf, name="mlperf")
app.add_typer(gpu, name="gpu")
app.command(epilog="Example: nybble doctor --json")(doctor)
app.command(epilog="Example: nybble report results --out report.html")(report)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"nybble {version('nybble')}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done; 1 a difference was found or a check failed; 2 wrong usage; 3 any other error; "
    "4 done, but inputs were left out; 130 interrupted."
)
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Run image networks in 4-bit integers.

    MODEL is a model folder or the name of a model: efficientnet-lite0, resnet50 and the cascade lite0-resnet50 are
    bundled, `nybble fetch` downloads others.
    The default is the model that NYBBLE_MODEL names, else efficientnet-lite0.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


__all__ = ["app"]
