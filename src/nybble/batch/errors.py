"""Errors of batch jobs."""

from __future__ import annotations

from nybble.graph import NybbleError


class BatchError(NybbleError):
    """Raised if a job cannot start or continue; the text names the file or the option, and the remedy."""
