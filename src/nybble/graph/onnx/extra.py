"""Whether the package ``onnx`` is there; imported before whatever needs it."""

from __future__ import annotations

import importlib.util

from nybble.graph.onnx.errors import MissingOnnxError


def check() -> None:
    """Raise MissingOnnxError, which says what to install, unless ``onnx`` is there."""
    if importlib.util.find_spec("onnx") is None:
        raise MissingOnnxError("ONNX files need the package onnx: pip install 'nybble[onnx]'")


check()
