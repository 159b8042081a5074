"""nybble itself."""

from __future__ import annotations

from typing import Any

from .base import Array, Engine, RunAll, one_at_a_time


def open_nybble(setup: dict[str, Any]) -> tuple[RunAll, dict[str, Any]]:
    """The engine, fed with uint8 photos; it spreads a batch over its threads by itself."""
    import nybble

    device = setup["device"]
    # A GPU is driven by one thread.
    threads = setup["threads"] if device == "cpu" else None
    engine = nybble.load(setup["model"], threads=threads, isa=setup["isa"], device=device)

    def run(photos: Array) -> Array:
        # Of several outputs the first one stands for all: every one of them is computed.
        results = engine.run(photos)
        return next(iter(results.values()))

    has_one = len(engine.graph.outputs) == 1
    return one_at_a_time(engine if has_one else run), {
        "version": nybble.__version__,
        "isa": str(engine.isa),
        "tuned": engine.tuned,
    }


ENGINE = Engine(open_nybble, modes=("latency",), layout="raw")
