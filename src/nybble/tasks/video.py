"""Frames of a video through PyAV. Needs ``nybble[video]``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nybble.graph.types import Array
from nybble.images import ImageError
from nybble.tasks.packages import needed

#: Suffixes that are taken as videos.
SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"))


class Frame(NamedTuple):
    """A frame of a video.

    Attributes
    ----------
    number : int
        From 0.
    seconds : float or None
        Time at which it is shown, if the file states it.
    samples : ndarray
        uint8 (rows, columns, 3), RGB.
    """

    number: int
    seconds: float | None
    samples: Array


def is_video(path: Path) -> bool:
    """Whether the suffix of a file is that of a video."""
    return path.suffix.lower() in SUFFIXES


def frames(path: str | Path) -> Iterator[Frame]:
    """The frames of the first video stream of a file, decoded one by one.

    Raises
    ------
    ImageError
        Naming the file: it cannot be read, has no video, or breaks off; in the last case after the frames before.
    MissingPackageError
        Without PyAV.
    """
    av = needed("av", "video")
    return _frames(av, Path(path))


def _frames(av: Any, path: Path) -> Iterator[Frame]:
    index = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(path, "has no video stream")
            stream = container.streams.video[0]
            expected = stream.frames
            for frame in container.decode(stream):
                yield Frame(index, frame.time, frame.to_ndarray(format="rgb24"))
                index += 1
    except av.error.FFmpegError as error:
        after = f" after {index} frames" if index else ""
        raise ImageError(path, f"cannot be decoded{after}: {error.strerror or error}") from error
    if index < expected:
        raise ImageError(path, f"breaks off after {index} of {expected} frames")
    if not index:
        raise ImageError(path, "has no frames")
