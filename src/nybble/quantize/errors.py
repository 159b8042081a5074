"""The errors of quantization."""

from __future__ import annotations

from nybble.graph import NybbleError


class QuantizeError(NybbleError, ValueError):
    """Raised if a network, a configuration or data cannot be quantized; the text names cause and remedy."""


class CaptureError(QuantizeError):
    """Raised for a module that cannot be captured. The text names the operation and the source line that called it."""


class SourceError(QuantizeError):
    """Raised if a SOURCE string, or the weights that it names, cannot be loaded."""


class MissingExtraError(QuantizeError, ImportError):
    """Raised if a package of ``nybble[quantize]`` is not installed."""
