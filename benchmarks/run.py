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
from nybble.models import LARGER, MODEL_VARIABLE, locate
from nybble.published import cached

RESULTS = Path(__file__).with_name("results")
#: The network that peers are measured on.
NETWORK = "nvidia-resnet50-int4"


def main(given: list[str]) -> None:
    """Run the command with what was not given filled in."""
    RESULTS.mkdir(exist_ok=True)
    app(["bench", _model(), *_data(given), *_peers(given), *_output(given), *given])


def _model() -> str:
    """``NYBBLE_MODEL``, the published ResNet-50 where it is at hand, or the bundled one."""
    named = os.environ.get(MODEL_VARIABLE)
    if named:
        return str(locate(named))
    for folder in (cached(NETWORK), _shared() / NETWORK):
        if folder is not None and folder.is_dir():
            return str(folder)
    return str(locate(LARGER))


def _shared() -> Path:
    """The development data, which may be absent."""
    named = os.environ.get("NYBBLE_SHARED_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


def _data(given: list[str]) -> list[str]:
    folder = _shared()
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
    return ["--output", str(RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json")] if _lacks(given, "--output") else []


def _lacks(given: list[str], option: str) -> bool:
    return not any(part == option or part.startswith(f"{option}=") for part in given)


if __name__ == "__main__":
    main(sys.argv[1:])
