"""The error of the demo."""

from __future__ import annotations

from nybble.graph.errors import NybbleError


class DemoError(NybbleError):
    """Raised if the demo cannot run; the text names the file or the package that is missing or wrong."""
