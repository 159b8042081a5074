"""Counts and times of a model, as Triton's statistics extension has them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Total:
    """How often, and for how long in all."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.ns += int(seconds * 1e9)

    def to_json(self) -> dict[str, int]:
        """Both numbers."""
        return {"count": self.count, "ns": self.ns}


@dataclass
class Statistics:
    """One model in one of its two forms.

    Times of a request that was split into several batches are those of its first.
    """

    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    compute_input: Total = field(default_factory=Total)
    compute_infer: Total = field(default_factory=Total)
    compute_output: Total = field(default_factory=Total)
    photos: int = 0
    last: int = 0
    executions: int = 0
    batches: dict[int, Total] = field(default_factory=dict)

    def succeeded(self, photos: int, total: float, decoding: float, waiting: float, running: float) -> None:
        """Count a request; times in seconds. Decoding is Triton's ``compute_input``."""
        self.success.add(total)
        self.compute_input.add(decoding)
        self.queue.add(waiting)
        self.compute_infer.add(running)
        self.compute_output.add(max(0, total - decoding - waiting - running))
        self.photos += photos
        self.executions += 1
        self.batches.setdefault(photos, Total()).add(running)
        self.last = int(time.time() * 1000)

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """An entry of ``model_stats``."""
        parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        nothing = Total().to_json()
        return {
            "name": name,
            "version": version,
            "last_inference": self.last,
            "inference_count": self.photos,
            "execution_count": self.executions,
            "inference_stats": {part: getattr(self, part).to_json() for part in parts}
            | {"cache_hit": nothing, "cache_miss": nothing},
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": nothing,
                    "compute_infer": total.to_json(),
                    "compute_output": nothing,
                }
                for size, total in sorted(self.batches.items())
            ],
        }
