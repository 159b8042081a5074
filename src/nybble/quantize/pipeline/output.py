"""The folder of the result: a model directory, its settings and its figures."""

from __future__ import annotations

import json
from pathlib import Path

from nybble.graph import Graph, write_graph
from nybble.graph.swap import replacing
from nybble.quantize.errors import QuantizeError
from nybble.quantize.pipeline.outcome import Outcome

#: Files beside ``model/``.
CONFIG, RESULT = "quantize.yaml", "result.json"


def check_free(out: Path) -> None:
    """Raise QuantizeError unless ``out`` is absent or an empty folder: no file is overwritten."""
    try:
        if out.is_dir() and not any(out.iterdir()):
            return
        is_there = out.exists() or out.is_symlink()
    except OSError as error:
        raise QuantizeError(f"{out}: cannot be read: {error.strerror or error}") from error
    if is_there:
        raise QuantizeError(f"{out}: exists already and is not overwritten; name another folder, or remove it")


def save(graph: Graph, outcome: Outcome, out: Path) -> None:
    """Write ``out/model/``, ``out/quantize.yaml`` and ``out/result.json``: all of them appear at once.

    Raises
    ------
    QuantizeError
        If ``out`` exists already.
    NybbleError
        If it cannot be written.
    """
    check_free(out)
    outcome.out = out
    with replacing(out, lambda _: False) as new:
        write_graph(graph, new)
        outcome.config.save(new / CONFIG)
        text = json.dumps(outcome.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (new / RESULT).write_text(text, encoding="utf-8")
