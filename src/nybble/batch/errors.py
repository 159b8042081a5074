"""Errors of batch jobs."""

from __future__ import annotations

from nybble.graph import NybbleError


class BatchError(NybbleError):
    """A job that cannot be begun or go on; the text names the file or the option, and the remedy."""
