"""Every kept input of every fuzz target, and its seeds: none may fail again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz_target import FILE, Bytes, Target, packed, unpack
from fuzz_targets import TARGETS, open_target

CORPUS = Path(__file__).parent / "corpus"
#: Packages that a target needs besides those of every test.
NEEDS = {"onnx": "onnx", "float-onnx": "torch", "settings": "yaml", "server": "fastapi", "grpc": "grpc"}


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    if request.param == "float-onnx":
        pytest.importorskip("onnx")
    opened = open_target(request.param)
    yield opened
    opened.close()


@pytest.mark.parametrize("target", TARGETS, indirect=True)
def test_kept_inputs(target: Target) -> None:
    seeds = dict(target.seeds())
    assert seeds
    kept = {file.name: file.read_bytes() for file in sorted((CORPUS / target.name).glob("*"))}
    for name, data in (seeds | kept).items():
        try:
            target.run(data)
        except Exception as error:
            raise AssertionError(f"{target.name}, input {name}: {error!r}") from error


def test_every_kept_input_has_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= TARGETS.keys()


def test_folders_come_back_and_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"1\n2")
    (tmp_path / "a" / "d").write_bytes(b"")
    data = packed(tmp_path / "a")
    for wrong in ("../x", "/x", "b//x", "b/../../x", "", "."):
        data += FILE + wrong.encode() + b"\nevil"
    unpack(data, tmp_path / "e")
    assert packed(tmp_path / "e") == packed(tmp_path / "a")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "e"]


def test_bytes_that_are_used_up() -> None:
    source = Bytes(b"\x05\xff")
    assert (source.number(0, 3), source.number(-1, 255), bool(source)) == (1, -1 + 255, False)
    assert (source.pick("xyz"), source.number(7, 9), source.rest()) == ("x", 7, b"")
