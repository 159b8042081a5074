"""The error of a report."""

from __future__ import annotations

from nybble.graph import NybbleError


class ReportError(NybbleError):
    """Raised if a report cannot be made: there is nothing to show, a file is damaged, a package is not installed."""
