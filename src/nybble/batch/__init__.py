"""Folders of millions of photos: in shards, resumable, a row for every photo."""

from nybble.batch.errors import BatchError
from nybble.batch.inputs import open_input
from nybble.batch.job import Job, Settings
from nybble.batch.network import Network
from nybble.batch.rows import FORMATS
from nybble.batch.run import Outcome, run

__all__ = ["FORMATS", "BatchError", "Job", "Network", "Outcome", "Settings", "open_input", "run"]
