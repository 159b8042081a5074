"""How every command ends: one line for an error, nothing for Ctrl-C or a closed pipe, and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from nybble.cli.errors import CommandError

#: Set this variable to see where an error comes from.
TRACEBACK = "NYBBLE_TRACEBACK"


class Group(TyperGroup):
    """The command group: exit code 1 for what went wrong, 2 for wrong usage, 130 for Ctrl-C."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **options: Any) -> Any:
        """Run the command and end the process, as click's ``main`` does in its standalone mode."""
        options["standalone_mode"] = False
        try:
            code = super().main(args, "nybble", *rest, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            _close_stdout()
            code = 1
        except Exception as error:
            # click's errors, known by what they offer: newer versions of typer carry a click of their own.
            if not hasattr(error, "format_message"):
                raise
            _say(_usage(error))
            code = getattr(error, "exit_code", 2)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command chosen; errors meant for the user become one line."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if os.environ.get(TRACEBACK) or not _is_for_the_user(error):
                raise
            _say(_describe(error))
            raise typer.Exit(1) from None


def _is_for_the_user(error: Exception) -> bool:
    from nybble.graph.errors import NybbleError

    return isinstance(error, CommandError | NybbleError | ValueError | OSError)


def _usage(error: Any) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    parameter = getattr(error, "param", None)
    if parameter is not None and parameter.name == "model":
        text += ", a model folder; `nybble fetch nvidia-resnet50-int4` downloads one"
    context = getattr(error, "ctx", None)
    return f"{text} (see {context.command_path} --help)" if context is not None else text


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        typer.echo(f"warning: {' '.join(str(message).split())}", err=True)


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        typer.echo(f"error: {text}", err=True)


def _close_stdout() -> None:
    """Point standard output away from the closed pipe, or the interpreter complains when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
