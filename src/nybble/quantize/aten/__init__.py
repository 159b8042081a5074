"""What each ATen operation stands for in the vocabulary of float networks."""

from nybble.quantize.aten import layers, shapes  # noqa: F401 - they register their handlers
from nybble.quantize.aten.handlers import IGNORED, translate

__all__ = ["IGNORED", "translate"]
