"""``make bench``: ``nybble bench`` with the development data, where there is any, and every peer that is installed.

Arguments are passed on: ``python benchmarks/run.py --seconds 30 --batch 1``.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from nybble.cli import app
from nybble.cli.model import find
from nybble.graph import write_graph
from nybble.synthetic import resnet50

RESULTS = Path(__file__).with_name("results")


def main(given: list[str]) -> None:
    """Run the command with what was not given filled in."""
    RESULTS.mkdir(exist_ok=True)
    app(["bench", _model(), *_data(given), *_peers(given), *_output(given), *given])


def _model() -> str:
    """The model that ``nybble demo`` would show, else one with random weights, which says so in its name."""
    found = find(None)
    if found is not None:
        return str(found.path)
    path = RESULTS / "SYNTHETIC-resnet50"
    if not path.is_dir():
        write_graph(resnet50(), path)
    return str(path)


def _data(given: list[str]) -> list[str]:
    named = os.environ.get("NYBBLE_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    wanted = {"--images": folder / "photos-500", "--calibration": folder / "imagenet-1k-one-each"}
    return [
        part
        for option, path in wanted.items()
        if _lacks(given, option) and path.is_dir()
        for part in (option, str(path))
    ]


def _peers(given: list[str]) -> list[str]:
    result: list[str] = []
    if _lacks(given, "--against"):
        for peer in ("onnxruntime", "openvino"):
            result += ["--against", peer] if find_spec(peer) else []
    if _lacks(given, "--bits"):
        result += ["--bits", "4", "--bits", "8"]
    return result


def _output(given: list[str]) -> list[str]:
    return ["--json", str(RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")] if _lacks(given, "--json") else []


def _lacks(given: list[str], option: str) -> bool:
    return not any(part == option or part.startswith(f"{option}=") for part in given)


if __name__ == "__main__":
    main(sys.argv[1:])
