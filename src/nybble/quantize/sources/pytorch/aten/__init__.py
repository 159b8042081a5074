"""What each ATen operation stands for in the vocabulary of float networks."""

from nybble.quantize.sources.pytorch.aten import layers, shapes  # noqa: F401 - they register their handlers
from nybble.quantize.sources.pytorch.aten.handlers import IGNORED, translate

__all__ = ["IGNORED", "translate"]
