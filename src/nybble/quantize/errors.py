"""The errors of quantization."""

from __future__ import annotations

from nybble.graph import NybbleError


class QuantizeError(NybbleError, ValueError):
    """A network, a configuration or data that cannot be quantized; the text names what, and the remedy."""


class CaptureError(QuantizeError):
    """A module that cannot be captured. The text names the operation and the source line that called it."""


class SourceError(QuantizeError):
    """A SOURCE string, or the weights it names, that cannot be loaded."""


class MissingExtraError(QuantizeError, ImportError):
    """A package of ``nybble[quantize]`` that is not installed."""
