"""A tiny model, its engine, and a server of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from servers import Running, running, tiny

from nybble.engine import Engine, load

# pip install 'nybble[serve,test-serve]'; where they have to be there, their absence fails.
if os.environ.get("NYBBLE_REQUIRE_TOOLS") != "1" and not all(map(find_spec, ("fastapi", "grpc", "httpx", "uvicorn"))):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def engine(model: Path) -> Iterator[Engine]:
    with load(model, threads=1) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(f"tiny={model}", log=tmp_path_factory.mktemp("server") / "log") as found:
        yield found
