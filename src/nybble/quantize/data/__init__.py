"""Photos for calibration and training: where they come from, how they are varied, batches of them."""

from nybble.quantize.data.archives import ShardPhotos, ZipPhotos
from nybble.quantize.data.augment import augment
from nybble.quantize.data.condition import PhotoReport
from nybble.quantize.data.folders import FilePhotos
from nybble.quantize.data.loader import Batch, CalibrationBatches, Loader, batches
from nybble.quantize.data.photos import MemoryPhotos, Photos, Relabelled, Subset, draw, every, split
from nybble.quantize.data.source import open_photos

__all__ = [
    "Batch",
    "CalibrationBatches",
    "FilePhotos",
    "Loader",
    "MemoryPhotos",
    "PhotoReport",
    "Photos",
    "Relabelled",
    "ShardPhotos",
    "Subset",
    "ZipPhotos",
    "augment",
    "batches",
    "draw",
    "every",
    "open_photos",
    "split",
]
