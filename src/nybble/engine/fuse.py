"""Where fusion was once; ``choices.py`` still imports it from here."""

from nybble.lower import Step, fuse

__all__ = ["Step", "fuse"]
