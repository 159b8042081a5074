"""Files are written whole, and never over a file of another kind."""

from __future__ import annotations

import io
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from nybble import files
from nybble.files import CSV, HTML, JSON, ONNX, OWN, PNG, PREDICTIONS, SVG, FileError, Kind

CONTENTS = {
    HTML: b"<!doctype html>\n<title>page</title>",
    JSON: b'{"a": 1}',
    PNG: b"\x89PNG\r\n\x1a\n" + bytes(20),
    SVG: b"<?xml version='1.0'?><svg/>",
    CSV: b"file,label\n",
    PREDICTIONS: b"file,label,prediction,score\n",
}
OTHERS = [*CONTENTS.values(), b"\xff\xd8\xff\xe0 a photo", b"PK\x03\x04 an archive", bytes(64), b"\x7fELF\x02"]


def onnx_file(ir_version: int = 8, producer: bytes = b"torch") -> bytes:
    graph = b"\x0a\x03abc" * 2000
    length = bytes([len(graph) & 127 | 128, len(graph) >> 7])
    return bytes([8, ir_version, 0x12, len(producer)]) + producer + b"\x3a" + length + graph


@pytest.mark.parametrize("kind", [*CONTENTS, ONNX], ids=lambda kind: kind.name)
def test_only_its_own_kind_is_replaced(tmp_path: Path, kind: Kind) -> None:
    path = tmp_path / "file"
    content = CONTENTS.get(kind, onnx_file())
    for other in (*OTHERS, onnx_file()):
        path.write_bytes(other)
        if kind.fits(other):
            assert other == content or kind is CSV
            continue
        for attempt in (lambda: files.check_free(path, kind), lambda: files.write(path, content, kind)):
            with pytest.raises(FileError, match=f"exists already and is not {kind.name}; name another file"):
                attempt()
        assert path.read_bytes() == other
    for before in (content, b""):
        path.write_bytes(before)
        files.write(path, content, kind)
        assert path.read_bytes() == content
    path.unlink()
    files.write(path, content, kind)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_onnx_files_of_every_exporter_are_known() -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, producer_name="p" * 200, doc_string="d" * 5000)
    helper.set_model_props(model, {"a": "b"})
    for content in (model.SerializeToString(), onnx.ModelProto(graph=graph).SerializeToString(), onnx_file()):
        assert ONNX.fits(content[:4096])
    for text in (b"# a readme\n", b"\x08", *OTHERS):
        assert ONNX.fits(text) == (text == b"\x08")


def test_links_stay_and_devices_are_written_to(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    for text in ("one", "two"):
        files.write_text(link, text, OWN)
        assert link.is_symlink() and real.read_text() == text
    files.write_text(Path(os.devnull), "nothing", OWN)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write_text(pipe, "through", JSON)
    reader.join(10)
    assert read == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("{}")

    class Full(io.FileIO):
        def write(self, content: Any, /) -> int:
            raise OSError(28, "No space left on device")

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", **rest: Full(self, mode) if mode == "wb" else real(self, mode, **rest)
    )
    with pytest.raises(FileError, match="file: cannot be written: No space left on device"):
        files.write_text(path, '{"a": 1}', JSON)
    with pytest.raises(FileError, match="cannot be written: No space"), files.writing(path, JSON) as file:
        file.write('{"a": 1}')
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "{}"


def test_names_that_are_no_text_are_written_as_they_are(tmp_path: Path) -> None:
    files.write_text(tmp_path / "table", os.fsdecode(b"caf\xe9.jpg,1\n"), CSV)
    assert (tmp_path / "table").read_bytes() == b"caf\xe9.jpg,1\n"


def test_a_file_written_in_pieces_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.writing(path, JSON) as file:
        file.write("{\n")
        assert not path.exists()
        file.write("}\n")
    assert path.read_text() == "{\n}\n"
    # Errors of what the caller does meanwhile stay what they are.
    for error in (ValueError("wrong"), FileNotFoundError(2, "missing", "another")):
        with pytest.raises(type(error)), files.writing(path, JSON) as file:
            file.write("{")
            raise error
    assert path.read_text() == "{\n}\n"
    assert list(tmp_path.iterdir()) == [path]
