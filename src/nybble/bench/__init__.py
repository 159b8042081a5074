"""The same work on this engine and on its peers, interleaved: ``nybble bench``."""

from nybble.bench.bench import Settings, bench, ceiling_records
from nybble.bench.errors import BenchError
from nybble.bench.photos import Photos, noise, read_photos

__all__ = ["BenchError", "Photos", "Settings", "bench", "ceiling_records", "noise", "read_photos"]
