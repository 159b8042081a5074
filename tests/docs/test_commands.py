"""The commands and Python examples of README and docs run, in order, in a folder with the files that they name.

A few pages run always. ``NYBBLE_DOCS=all`` runs every page.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("markdown_it", reason="needs markdown-it-py: make docs installs it")
pytest.importorskip("skimage", reason="needs scikit-image: pip install 'nybble[demo]'")
if os.environ.get("CI"):
    import torch  # noqa: F401
else:
    pytest.importorskip("torch", reason="needs torch: pip install 'nybble[quantize]'")

from fences import fences
from prepared import ROOT, cache, prepare

#: Pages without a log: what ran once is not run again.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if path.parent.name not in {"log", "models", "api"}
)
#: Those that always run.
QUICK = ("docs/guide/classify.md", "docs/guide/deploy.md", "docs/ensembles.md")
#: Packages that a page needs beside those above.
NEEDS = {"docs/guide/deploy.md": ("fastapi", "grpc", "onnx", "pyarrow")}
_WAIT = 60
_PIP = """#!{python}
import re, sys
wanted = re.findall(r"nybble\\[([\\w,-]+)\\]", " ".join(sys.argv))
unknown = {{name for names in wanted for name in names.split(",")}} - set({extras!r})
sys.exit(f"no such extra: {{', '.join(sorted(unknown))}}" if unknown else 0)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With a ``pip`` that installs nothing and knows the extras, and a cache of its own."""
    folder = tmp_path_factory.mktemp("environment")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pip = folder / "pip"
    pip.write_text(_PIP.format(python=sys.executable, extras=sorted(project["optional-dependencies"])))
    pip.chmod(0o755)
    path = os.pathsep.join((str(folder), str(Path(sys.executable).parent), os.environ["PATH"]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NYBBLE_")}
    return kept | {"PATH": path, "NYBBLE_CACHE": str(cache(folder / "cache")), "PYTHONPATH": ".", "COLUMNS": "200"}


@pytest.mark.parametrize("name", PAGES if os.environ.get("NYBBLE_DOCS") == "all" else QUICK)
def test_page(name: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package, reason=f"needs {package}: install the extras that the page names")
    page = ROOT / name
    ports = {str(port): str(free) for port, free in zip((8000, 8001), _free_ports(2), strict=True)}
    prepare(tmp_path, page.read_text(encoding="utf-8"))
    for folder in ("benchmarks", "docs", "tests", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    for variable in ("PATH", "NYBBLE_CACHE"):
        monkeypatch.setenv(variable, environment[variable])
    names: dict[str, Any] = {"__name__": "__main__"}
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for fence in fences(page):
            if fence.left_out is not None:
                continue
            where = f"{name}:{fence.line}"
            script = re.sub("8000|8001", lambda match: ports[match[0]], fence.text)
            if fence.kind == "python":
                _run_python(fence.before, script, names, where)
            elif fence.background:
                servers.append(_start(script, environment, ports["8000"]))
            else:
                _run(script, environment, fence.exit_code, where)
    finally:
        for server in servers:
            server.terminate()
            server.wait(_WAIT)


def test_most_commands_run() -> None:
    """Marks that leave out commands are exceptions: what downloads, takes minutes, or needs wheels that are built."""
    every = [fence for name in PAGES for fence in fences(ROOT / name)]
    left_out = [fence for fence in every if fence.left_out is not None]
    assert len(left_out) * 3 < len(every)


def _run_python(before: str, code: str, names: dict[str, Any], where: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(before, f"{where} (before)", "exec"), names)
        exec(compile(code, where, "exec"), names)


def _run(script: str, environment: dict[str, str], wanted: int, where: str) -> None:
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == wanted, f"{where}: exit code {done.returncode}\n{script}\n{done.stdout}\n{done.stderr}"


def _start(script: str, environment: dict[str, str], port: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["bash", "-c", f"exec {script.strip()}"], env=environment)
    end = time.monotonic() + _WAIT
    while time.monotonic() < end:
        assert process.poll() is None, f"ended with {process.returncode}: {script}"
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", int(port))) == 0:
                return process
        time.sleep(0.1)
    process.terminate()
    raise AssertionError(f"does not listen: {script}")


def _free_ports(count: int) -> Iterator[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    yield from [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
