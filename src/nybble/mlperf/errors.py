"""The error of everything around MLPerf."""

from __future__ import annotations

from nybble.graph.errors import NybbleError


class MlperfError(NybbleError, ValueError):
    """Raised if a conf file, a log, an output folder or a run cannot be used; the text names it and the remedy."""


class MlperfWarning(UserWarning):
    """Warns of a log or a conf file with contents that are probably a mistake."""
