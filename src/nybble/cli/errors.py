"""The errors of a command. They stand apart from the library's so that ``nybble --help`` need not load NumPy."""

from __future__ import annotations

from nybble.cli.exit_codes import ExitCode


class CommandError(Exception):
    """What a command cannot do, in one line for the user."""

    exit_code = ExitCode.ERROR


class WrongUsageError(CommandError):
    """Options or arguments that do not fit together."""

    exit_code = ExitCode.USAGE


class DifferenceError(CommandError):
    """A difference that a command was asked to look for."""

    exit_code = ExitCode.DIFFERENCE
