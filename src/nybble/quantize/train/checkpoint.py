"""The whole state of a training run in one file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nybble.quantize import atomic
from nybble.quantize.errors import QuantizeError
from nybble.quantize.train.average import WeightAverage

LAST, BEST = "last.pt", "best.pt"
#: Raised when the content changes, so that an old file is refused rather than misread.
_VERSION = 1


def rng_state() -> dict[str, Any]:
    """State of the random generators that a network or a user's code may draw from."""
    python_version, python_words, python_gauss = random.getstate()
    name, words, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [python_version, list(python_words), python_gauss],
        "numpy": [name, torch.from_numpy(np.asarray(words).astype(np.int64)), position, has_gauss, gauss],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Take over what :func:`rng_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, numpy_words, position, has_gauss, numpy_gauss = state["numpy"]
    np.random.set_state((name, numpy_words.numpy().astype(np.uint32), position, has_gauss, numpy_gauss))


def pack(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None,
    scaler: torch.amp.GradScaler,
    rng: list[dict[str, Any]],
    run: dict[str, Any],
    about: dict[str, str],
) -> dict[str, Any]:
    """Everything of a run; ``rng`` has the generators of each process, ``run`` the position and figures so far."""
    return {
        "version": _VERSION,
        "about": about,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else average.state_dict(),
        "scaler": scaler.state_dict(),
        "rng": rng,
        "run": run,
    }


def restore(path: Path, about: dict[str, str]) -> dict[str, Any] | None:
    """Read a checkpoint that belongs to this run; ``None`` where there is none.

    Raises
    ------
    QuantizeError
        Naming the file, if it cannot be read or belongs to other settings, another network or other data.
    """
    state = atomic.load(path)
    if state is None:
        return None
    if state.get("version") != _VERSION:
        raise QuantizeError(f"{path}: was written by another version of nybble; name another work folder")
    for key, value in about.items():
        if state["about"].get(key) != value:
            raise QuantizeError(
                f"{path}: belongs to a run with other {key}; name another work folder, or set resume=False "
                "to start anew in this one"
            )
    return state
