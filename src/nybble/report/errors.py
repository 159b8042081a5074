"""The error of a report."""

from __future__ import annotations

from nybble.graph import NybbleError


class ReportError(NybbleError):
    """A report that cannot be made: nothing to show, a damaged file, a package that is not installed."""
