"""JSON, TOML and YAML nest: what parses a file refuses a nesting too deep to parse, naming the file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nybble.graph.errors import NybbleError
from nybble.serve.settings import read_settings

SOURCE = Path(__file__).resolve().parent.parent / "src" / "nybble"
PARSERS = {"json.loads", "json.load", "tomllib.loads", "tomllib.load", "yaml.safe_load"}
#: What parses text that no person writes: package data, the cache, messages between processes.
OURS = {
    "batch/rows.py",
    "bench/peers.py",
    "bench/race.py",
    "bench/worker.py",
    "catalog.py",
    "mlperf/job.py",
    "mlperf/process.py",
    "published.py",
    "quantize/sources/pytorch/source_lines.py",
}
DEPTH = 5_000


def unguarded(path: Path) -> Iterator[int]:
    """Lines of calls of a parser that no ``except RecursionError`` is around."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        node
        for attempt in ast.walk(tree)
        if isinstance(attempt, ast.Try)
        and any("RecursionError" in ast.unparse(handler.type) for handler in attempt.handlers if handler.type)
        for statement in attempt.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in PARSERS and node not in guarded:
            yield node.lineno


def test_all_parsers_are_guarded() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        if str(path.relative_to(SOURCE)) not in OURS
        for line in unguarded(path)
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(OURS))
def test_exceptions_are_still_needed(name: str) -> None:
    assert any(unguarded(SOURCE / name))


def test_deep_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep"
    file.write_text("queue = " + "[" * DEPTH)
    with pytest.raises(NybbleError, match="deep: is not TOML"):
        read_settings(file, {}, {})


def test_deep_configurations_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("yaml")
    from nybble.quantize.config import QuantizeConfig

    file = tmp_path / "deep"
    file.write_text("[" * DEPTH)
    with pytest.raises(NybbleError, match="deep: is not YAML"):
        QuantizeConfig.load(file)
