"""Which models are published, and what their manifests say."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nybble import published
from nybble.cache import cache_folder
from nybble.published import FetchError


def test_finding_a_model_loads_nothing_of_the_network() -> None:
    code = (
        "import sys; from nybble.models import find, names; names(); find(); assert 'urllib.request' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert published.cached("tiny") is None
    (tmp_path / "tiny").mkdir()
    assert published.cached("tiny") == tmp_path / "tiny"
    monkeypatch.delenv("NYBBLE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().name == "nybble"


def test_unknown_model() -> None:
    with pytest.raises(FetchError, match="no published model 'resnet'; known: nvidia-resnet50-int4"):
        published.read_manifest("resnet")


def test_shipped_manifests_are_sound() -> None:
    for name in published.available():
        manifest = published.read_manifest(name)
        assert manifest.name == name
        assert manifest.base.startswith("https://")
        assert re.search(r"/[0-9a-f]{40}/", manifest.base), "the source is pinned to a commit"
        paths = [file.path for file in manifest.files]
        assert len(set(paths)) == len(paths)
        for file in manifest.files:
            assert re.fullmatch(r"model(/[A-Za-z0-9_][A-Za-z0-9_.]*)+", file.path)
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert 0 < file.size < 1 << 30


@pytest.mark.data
def test_the_manifest_describes_the_published_directory(shared_data: Path) -> None:
    manifest = published.read_manifest("nvidia-resnet50-int4")
    folder = shared_data / manifest.name
    present = {path.relative_to(folder).as_posix() for path in (folder / "model").rglob("*") if path.is_file()}
    assert present == {file.path for file in manifest.files}
    for file in manifest.files:
        content = (folder / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
