"""Finds the line of the user's code that an operation comes from."""

from __future__ import annotations

import json
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.fx.proxy import TracerBase

import nybble

#: Frames in files below these are not the user's.
_LIBRARIES = tuple(f"{Path(module.__file__).parent}{os.sep}" for module in (nybble, torch) if module.__file__)
#: Python's own; packages that people install may lie below.
_STANDARD = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
_INSTALLED = ("site-packages", "dist-packages")
#: Code that torch.fx makes.
_GENERATED = "<eval_with_key>"
#: The prefix of a stack that is stored as data, in JSON.
_DATA = "nybble.frames:"
#: A frame as ``traceback`` prints it, by two spaces; the first of a trace may have lost them. Lines of code have four.
_FRAME = re.compile(r'(?:  )?File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)')


class Frame(NamedTuple):
    """One entry of a stack; ``code`` is empty where there is no source."""

    file: str
    line: int
    code: str


class _Stack(list[Frame]):
    """Takes the place of a ``StackSummary``, of which torch.fx keeps the formatted text."""

    def format(self) -> list[str]:
        """The frames as data."""
        return [_DATA + json.dumps(self)]


@contextmanager
def recorded() -> Iterator[None]:
    """While it lasts, nodes of torch.fx get all frames of the module's own code, as data.

    By themselves they get those of functions called ``forward`` only, as text.
    """
    before = getattr(TracerBase, "_filter_traceback_frames", None)
    if before is None:
        # Versions of torch that have no such hook keep text.
        yield
        return

    def keep(tracer: TracerBase, summary: traceback.StackSummary) -> Any:
        # Frames outside of our own are our callers, not the module.
        ours = [place for place, entry in enumerate(summary) if entry.filename.startswith(_LIBRARIES[0])]
        inside = list(summary)[max(ours, default=-1) + 1 :]
        return _Stack(_frame(entry) for entry in inside if entry.line and not _is_library(entry.filename))

    TracerBase._filter_traceback_frames = keep
    try:
        yield
    finally:
        TracerBase._filter_traceback_frames = before


def user_line(frames: Iterable[Frame]) -> str:
    """The innermost line that is neither torch's nor ours, as ``file:line: code``; empty if there is none.

    Parameters
    ----------
    frames : iterable of Frame
        The outermost first.
    """
    own = [frame for frame in frames if not _is_library(frame.file)]
    # Code without a file (exec) says nothing; the line that runs it does.
    for frame in reversed([frame for frame in own if frame.code] or own):
        return f"{frame.file}:{frame.line}: {frame.code}" if frame.code else f"{frame.file}:{frame.line}"
    return ""


def frames_of(error: BaseException) -> list[Frame]:
    """Where an exception comes from."""
    return [_frame(entry) for entry in traceback.extract_tb(error.__traceback__)]


def frames_of_trace(trace: str | None) -> list[Frame]:
    """A stack as torch.fx keeps it: data of :func:`recorded`, else text in the format of Python's ``traceback``."""
    if trace is not None and trace.startswith(_DATA):
        return [Frame(*entry) for entry in json.loads(trace.removeprefix(_DATA))]
    found: list[Frame] = []
    for line in (trace or "").split("\n"):
        head = None if line.startswith("    ") else _FRAME.fullmatch(line)
        if head is not None:
            found.append(Frame(head["file"], int(head["line"]), ""))
        elif found and line.startswith("    ") and not found[-1].code:
            # Only the first line of code; what follows are its marks.
            found[-1] = found[-1]._replace(code=line.strip())
    return found


def _is_library(file: str) -> bool:
    standard = file.startswith(_STANDARD) and not any(name in Path(file).parts for name in _INSTALLED)
    return standard or file.startswith((*_LIBRARIES, _GENERATED))


def _frame(entry: traceback.FrameSummary) -> Frame:
    return Frame(entry.filename, entry.lineno or 0, (entry.line or "").split("\n")[0].strip())
