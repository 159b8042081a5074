"""Checks that the packages of ``nybble[quantize]`` are installed; imported before everything that needs them."""

from __future__ import annotations

import importlib.util

from nybble.quantize.errors import MissingExtraError

#: Without the others (Matplotlib, TensorBoard) there are no pictures.
NEEDED = ("torch", "torchvision", "yaml")


def check() -> None:
    """Raise MissingExtraError, which says what to install, if a package is missing."""
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"quantizing needs {name}: pip install 'nybble[quantize]'")


check()
