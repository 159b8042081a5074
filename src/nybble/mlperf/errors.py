"""The error of everything around MLPerf."""

from __future__ import annotations

from nybble.graph.errors import NybbleError


class MlperfError(NybbleError, ValueError):
    """A conf file, a log, an output folder or a run that cannot be used; the text names it and the remedy."""


class MlperfWarning(UserWarning):
    """A log or a conf file with something in it that is probably not meant."""
