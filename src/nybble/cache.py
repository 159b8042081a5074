"""The folder of what nybble keeps for a user between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``NYBBLE_CACHE``, or the system's cache folder for nybble. Fetched models and tuned choices lie in it."""
    named = os.environ.get("NYBBLE_CACHE")
    if named:
        return Path(os.path.expanduser(named))  # noqa: PTH111 - pathlib's raises where there is no such user
    import platformdirs

    return platformdirs.user_cache_path("nybble")
