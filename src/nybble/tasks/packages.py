"""Packages of extras, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from nybble.graph import NybbleError


class MissingPackageError(NybbleError, ImportError):
    """Raised if a package of an extra is not installed."""


def needed(module: str, extra: str) -> Any:
    """Import a module. Raises :class:`MissingPackageError` that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{module} is not installed ({error}); install it with `pip install 'nybble[{extra}]'`"
        ) from error
