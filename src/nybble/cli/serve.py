"""``nybble serve``: networks as a service."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nybble.cli.errors import CommandError, WrongUsageError
from nybble.cli.exit_codes import ExitCode
from nybble.cli.model import Threads

if TYPE_CHECKING:
    from nybble.serve import Address

#: As ``nybble.serve.NAME``, which is slow to import.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL | NAME=MODEL]...",
            help="Models to serve, by the name of their folder or of an ensemble's TOML file, or another NAME.",
            show_default="the models of --config, else NYBBLE_MODEL, else the bundled network",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="A TOML file of settings; options take precedence.")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="The address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="For REST; 0: any free one.", show_default="8000")
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", min=0, max=65535, help="For gRPC.", show_default="8001")
    ] = None,
    no_grpc: Annotated[bool, typer.Option("--no-grpc", help="Serve REST only.")] = False,
    threads: Threads = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", "-b", min=1, max=1024, help="Most photos in one batch.", show_default="8"),
    ] = None,
    queue: Annotated[
        int | None,
        typer.Option("--queue", min=1, max=1_000_000, help="Most photos in the queue.", show_default="256"),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds that a request may take.", show_default="30")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File of tokens, one per line."),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--certificate", metavar="FILE", help="A certificate chain (PEM), for TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Its private key (PEM).")] = None,
    control: Annotated[
        bool | None,
        typer.Option(
            "--control/--no-control",
            help="Let clients load and unload models.",
            show_default="on a loopback address or with tokens",
        ),
    ] = None,
    log: Annotated[str | None, typer.Option("--log", help="text or json.", show_default="text")] = None,
) -> None:
    """Serve models over REST and gRPC: the Open Inference Protocol, /v1/classify, and a page to drop photos on.

    Each model is served twice: as NAME, which takes decoded photos, and as NAME.photos, which takes encoded ones.
    SIGTERM and Ctrl-C end the server once the requests under way are answered.
    """
    from nybble.models import find, locate

    named = _named(models or [])
    for path in named.values():
        locate(path, ensembles=True)  # Before the server's packages are imported, which takes a second.
    from nybble.serve import read_settings, run

    options = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "threads": threads,
        "timeout": timeout,
        "token_file": token_file,
        "certificate": certificate,
        "key": key,
        "control": control,
        "log": log,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if no_grpc:
        given["grpc_port"] = None
    settings = read_settings(config, given, named)
    if not settings.models:
        chosen = find(ensembles=True)
        settings = read_settings(config, given, {_name_of(chosen.name): str(chosen.path)})
    for model in settings.models.values():
        model.batch = batch or model.batch
        model.queue = queue or model.queue
    if run(settings, _tell(settings.certificate is not None)) is signal.SIGINT:
        raise typer.Exit(ExitCode.INTERRUPTED)


def _tell(is_secure: bool) -> Any:
    def tell(address: Address) -> None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        grpc = "" if address.grpc_port is None else f", gRPC on {host}:{address.grpc_port}"
        scheme = "https" if is_secure else "http"
        typer.echo(f"serving {', '.join(address.models)} on {scheme}://{host}:{address.port}{grpc}")

    return tell


def _named(models: list[str]) -> dict[str, str]:
    """Paths or names of models by the name they are served under."""
    from nybble.images.errors import printable

    named: dict[str, str] = {}
    for text in models:
        name, separator, path = text.partition("=")
        if not separator:
            name, path = _name_of(text), text
        if not _NAME.fullmatch(name):
            raise CommandError(f"{printable(text)}: a model cannot be called {printable(name)}; write NAME=MODEL")
        if name in named:
            raise WrongUsageError(f"two models are called {name}; write NAME=MODEL for one of them")
        named[name] = path
    return named


def _name_of(model: str) -> str:
    """The name of a model folder, or of the one around it where it is ``model/``; of a file without its suffix."""
    path = Path(model).expanduser().absolute()
    if path.is_file():
        return path.stem
    return path.parent.name if path.name == "model" else path.name
