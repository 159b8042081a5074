"""Checks that the package ``onnx`` is installed; imported before everything that needs it."""

from __future__ import annotations

import importlib.util

from nybble.graph.onnx.errors import MissingOnnxError


def check() -> None:
    """Raise MissingOnnxError, which says what to install, unless ``onnx`` is installed."""
    if importlib.util.find_spec("onnx") is None:
        raise MissingOnnxError("ONNX files need the package onnx: pip install 'nybble[onnx]'")


check()
