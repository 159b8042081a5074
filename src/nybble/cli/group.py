"""How every command ends: one line for an error, nothing for Ctrl-C or a closed pipe, and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from nybble.cli.coercion import Parameters
from nybble.cli.commands import COMMANDS, SECTIONS, imported, summarized
from nybble.cli.errors import CommandError
from nybble.cli.exit_codes import ExitCode
from nybble.cli.streams import StreamError, prepare_streams, settle_streams
from nybble.interrupts import noted_interrupts

#: Set this variable to see where an error comes from.
TRACEBACK = "NYBBLE_TRACEBACK"

#: The extra that installs a package which only some commands need.
EXTRAS = {
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    **dict.fromkeys(("skimage",), "demo"),
    **dict.fromkeys(("onnx",), "onnx"),
    **dict.fromkeys(("nncf", "onnxruntime", "openvino"), "bench"),
    **dict.fromkeys(("mlperf_loadgen",), "mlperf"),
    **dict.fromkeys(("fastapi", "google", "grpc", "multipart", "prometheus_client", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("pyarrow",), "batch"),
    **dict.fromkeys(("tensorboard", "torch", "torchvision", "yaml"), "quantize"),
}

#: Errors of the system that nybble cannot prevent; others have a type of ours, or are bugs of ours.
_SYSTEM = frozenset(
    {
        *(errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE),
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EFBIG),
    }
)


class Group(Parameters, TyperGroup):
    """A group of commands: exit codes are those of :class:`ExitCode`."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **options: Any) -> Any:
        """Run the command and end the process, as click's ``main`` does in its standalone mode."""
        arguments = [str(argument) for argument in (sys.argv[1:] if args is None else args)]
        sys.exit(self._run(arguments))

    def _run(self, arguments: list[str]) -> int:
        with noted_interrupts() as interrupts:
            try:
                prepare_streams()
                with warnings.catch_warnings():
                    warnings.showwarning = _warn_once()
                    code = self._invoked(arguments)
                sys.stdout.flush()
                return code
            except KeyboardInterrupt:
                return ExitCode.INTERRUPTED
            except Exception as error:
                # Libraries turn an interrupt into errors of their own, above all while they are imported.
                return ExitCode.INTERRUPTED if interrupts else _failed(error, arguments)
            finally:
                settle_streams()

    def _invoked(self, arguments: list[str]) -> int:
        try:
            with self.make_context("nybble", list(arguments)) as context:
                self.invoke(context)
        except typer.Exit as done:
            return done.exit_code
        return ExitCode.DONE


class Root(Group):
    """All commands, each imported when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command's name and summary; :meth:`resolve_command` gives the command itself."""
        return summarized(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that arguments name, imported."""
        try:
            name, _, rest = super().resolve_command(ctx, args)
        except Exception as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            if close and hasattr(error, "message"):
                error.message = f"{error.message.rstrip('.')}; did you mean {close[0]}?"
            raise
        return name, None if name is None else imported(name), rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands by section."""
        width = max(map(len, COMMANDS))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in entries.items()])


def _failed(error: Exception, arguments: list[str]) -> int:
    """Report what went wrong, as far as standard error can be written, and return the exit code."""
    if isinstance(error, StreamError):
        if not error.is_broken_pipe:
            _say(str(error))
        return ExitCode.ERROR
    found = _expected(error)
    if os.environ.get(TRACEBACK) or found is None:
        with contextlib.suppress(OSError):
            sys.stderr.write("".join(traceback.format_exception(error)))
    text, code = found if found is not None else (_report(arguments), ExitCode.ERROR)
    _say(text)
    return code


def _expected(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code of an error that a user can cause; ``None`` for a bug in nybble."""
    # click's errors, known by what they offer: newer versions of typer carry a click of their own.
    if hasattr(error, "format_message"):
        return _usage(error), getattr(error, "exit_code", ExitCode.USAGE)
    if isinstance(error, CommandError):
        return _line(error), error.exit_code
    if isinstance(error, typer.Abort):
        return "aborted", ExitCode.ERROR
    if isinstance(error, MemoryError):
        return f"there is not enough memory{f': {_line(error)}' if str(error) else ''}", ExitCode.ERROR
    if isinstance(error, Warning):
        return f"{_line(error)} (PYTHONWARNINGS makes warnings errors)", ExitCode.ERROR
    if isinstance(error, ModuleNotFoundError) and (package := (error.name or "").partition(".")[0]) in EXTRAS:
        return f"this needs the package {package}: pip install 'nybble[{EXTRAS[package]}]'", ExitCode.ERROR
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{place}{error.strerror}", ExitCode.ERROR
    from nybble.graph.errors import NybbleError

    return (_line(error), ExitCode.ERROR) if isinstance(error, NybbleError) else None


def _usage(error: Any) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # Its message is the whole help.
        text = "Missing command"
    parameter = getattr(error, "param", None)
    if parameter is not None and parameter.name == "model":
        text += ", a model folder; `nybble fetch nvidia-resnet50-int4` downloads one"
    return f"{text} (see {context.command_path} --help)" if context is not None else text


def _report(arguments: list[str]) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("nybble")
    except PackageNotFoundError:
        own = "of unknown version"
    return (
        f"this is a bug in nybble; please report it with the traceback above (nybble {own}, "
        f"Python {platform.python_version()}, {platform.platform()}, command: {shlex.join(['nybble', *arguments])})"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _warn_once() -> Callable[..., None]:
    """A ``warnings.showwarning`` that shows each text once, wherever it is raised."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            with contextlib.suppress(OSError):
                typer.echo(f"warning: {text}", err=True)

    return show


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(f"error: {text}", err=True)
