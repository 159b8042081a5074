"""The folder of what nybble keeps for a user between runs, and how files come into being there."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``NYBBLE_CACHE``, or the system's cache folder for nybble. Fetched models and tuned choices lie in it."""
    named = os.environ.get("NYBBLE_CACHE")
    if named:
        return Path(named).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("nybble")


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it, so that nobody reads half of it. Raises ``OSError``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
