"""Which of the user's lines something comes from."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

import nybble

#: Frames in files below these are not the user's.
_LIBRARIES = tuple(f"{Path(module.__file__).parent}{os.sep}" for module in (torch, nybble) if module.__file__)
#: Code that torch.fx makes.
_GENERATED = "<eval_with_key>"
#: A frame as ``traceback`` prints it, by two spaces; the first of a trace may have lost them. Lines of code have four.
_FRAME = re.compile(r'(?:  )?File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)')


class Frame(NamedTuple):
    """One entry of a stack; ``code`` is empty where there is no source."""

    file: str
    line: int
    code: str


def user_line(frames: Iterable[Frame]) -> str:
    """The innermost line that is neither torch's nor ours, as ``file:line: code``; empty if there is none.

    Parameters
    ----------
    frames : iterable of Frame
        The outermost first.
    """
    own = [frame for frame in frames if not frame.file.startswith((*_LIBRARIES, _GENERATED))]
    # Code without a file (exec) says nothing; the line that runs it does.
    for frame in reversed([frame for frame in own if frame.code] or own):
        return f"{frame.file}:{frame.line}: {frame.code}" if frame.code else f"{frame.file}:{frame.line}"
    return ""


def frames_of(error: BaseException) -> list[Frame]:
    """Where an exception comes from."""
    return [
        Frame(entry.filename, entry.lineno or 0, (entry.line or "").split("\n")[0].strip())
        for entry in traceback.extract_tb(error.__traceback__)
    ]


def frames_of_trace(trace: str | None) -> list[Frame]:
    """A stack as torch.fx keeps it: text in the format of Python's ``traceback``."""
    found: list[Frame] = []
    for line in (trace or "").split("\n"):
        head = None if line.startswith("    ") else _FRAME.fullmatch(line)
        if head is not None:
            found.append(Frame(head["file"], int(head["line"]), ""))
        elif found and line.startswith("    ") and not found[-1].code:
            # Only the first line of code; what follows are its marks.
            found[-1] = found[-1]._replace(code=line.strip())
    return found
