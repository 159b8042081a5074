"""The error of a command. It stands apart from the library's so that ``nybble --help`` need not load NumPy."""

from __future__ import annotations


class CommandError(Exception):
    """What a command cannot do, in one line for the user."""
