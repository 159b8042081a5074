"""Atomic writes: a file is either the complete old one or the complete new one, whenever the process is killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nybble.quantize.errors import QuantizeError


def write(path: Path, content: Callable[[Path], object]) -> None:
    """Let ``content`` write a temporary file beside ``path``, flush it to the disk, then rename it.

    Raises
    ------
    QuantizeError
        Naming the file, where it cannot be written.
    """
    # The process's number: two runs on one folder must not write into each other's file.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise QuantizeError(f"{path}: cannot be written: {error}") from error


def save(path: Path, state: dict[str, Any]) -> None:
    """``torch.save`` through :func:`write`."""
    write(path, lambda part: torch.save(state, part))


def load(path: Path) -> dict[str, Any] | None:
    """What :func:`save` wrote, tensors on the CPU; ``None`` where there is no such file.

    Only tensors, numbers, strings and containers are read: a checkpoint cannot run code.

    Raises
    ------
    QuantizeError
        Naming the file, where it cannot be read.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged file can cause many kinds of exceptions in the reader.
        raise QuantizeError(
            f"{path}: cannot be read as a saved state ({str(error).splitlines()[0][:200]}); remove it to start anew"
        ) from error
    return state
