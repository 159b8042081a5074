"""Where accuracy runs find data, keep their work and write their figures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from nybble.quantize.train.evaluate import Evaluation, compare

_ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("NYBBLE_SHARED_DATA", _ROOT.parent / "shared" / "data"))
#: Ignored by git: decoded data, checkpoints, networks, figures.
WORK = _ROOT / "build" / "accuracy"

show = Console(soft_wrap=True, highlight=False, markup=False).print


def stage(name: str, run: Callable[[], dict[str, Any]]) -> None:
    """Run a stage and write its figures, unless an earlier run did.

    ``seconds`` (wall time) and ``cpu_seconds`` (this process) are added: they say what else the machine was doing.
    """
    path = WORK / f"{name}.json"
    if path.is_file():
        show(f"== {name}: done")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun, used = time.time(), time.process_time()
    show(f"== {name}")
    found = run()
    found |= {"seconds": round(time.time() - begun, 1), "cpu_seconds": round(time.process_time() - used, 1)}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(json.dumps(found))


def figures(found: Evaluation, reference: Evaluation | None = None) -> dict[str, Any]:
    """Top-1 with its interval, and discordant pairs against a reference."""
    result: dict[str, Any] = {
        "images": found.top1.total,
        "right": found.top1.right,
        "top1": round(100 * found.top1.value, 3),
        "interval": [round(100 * bound, 2) for bound in found.top1.interval],
    }
    if reference is not None:
        pairs = compare(reference, found)
        result["against_float"] = {
            "points": round(100 * pairs.difference, 3),
            "interval": [round(100 * bound, 2) for bound in pairs.interval],
            "only_float_right": pairs.first_only,
            "only_this_right": pairs.second_only,
            "p_value": pairs.p_value,
        }
    return result


class Progress:
    """Prints a line now and then, for logs."""

    def __init__(self, seconds: float = 30.0) -> None:
        self._seconds = seconds
        self._last = 0.0

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Note that ``done`` of ``total`` are done."""
        if time.time() - self._last >= self._seconds:
            self._last = time.time()
            show(f"{time.strftime('%H:%M:%S')} {what}: {done} of {total}")
