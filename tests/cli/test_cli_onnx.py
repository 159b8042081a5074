from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nybble.graph import read_graph

onnx = pytest.importorskip("onnx")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_out_and_in_again_is_the_same_model(run: Any, model: Path, tmp_path: Path) -> None:
    result = run("export", model, tmp_path / "tiny.onnx")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("qdq, operator set 21: ")
    assert "QuantizeLinear" in lines[1]
    assert "input input: float (N, 3, 32, 32)" in lines
    assert lines[-1] == f"in {tmp_path / 'tiny.onnx'}"
    assert run("import", tmp_path / "tiny.onnx", tmp_path / "again").exit_code == 0
    assert _files(tmp_path / "again") == _files(model)


@pytest.mark.parametrize(("option", "form", "kind"), [("--exact", "exact", "int8"), ("--float", "float", "float")])
def test_other_forms(run: Any, model: Path, tmp_path: Path, option: str, form: str, kind: str) -> None:
    out = tmp_path / "tiny.onnx"
    report = json.loads(run("export", model, out, option, "--json").stdout)
    assert report["form"] == form
    assert report["inputs"] == {"input": f"{kind} (N, 3, 32, 32)"}
    assert report["bytes"] == out.stat().st_size
    assert report["wider_than_float32"] == {}
    result = run("import", out, tmp_path / "again")
    assert result.exit_code == 3
    assert f"error: {out}: was exported with --{form}" in result.stderr
    assert not (tmp_path / "again").exists()


def test_forms_exclude_each_other(run: Any, model: Path, tmp_path: Path) -> None:
    result = run("export", model, tmp_path / "tiny.onnx", "--exact", "--float")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr


def test_without_metadata(run: Any, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.onnx"
    run("export", model, out)
    proto = onnx.load(out)
    del proto.metadata_props[:]
    onnx.save(proto, out)
    result = run("import", out, tmp_path / "bare")
    assert result.exit_code == 0, result.output
    assert "how photos become the input is not known" in result.stdout
    report = json.loads(run("import", out, tmp_path / "bare", "--imagenet", "--resize", "40", "--json").stdout)
    assert report["preprocessing"] is True
    assert report["largest_error"] == max((entry["error"] for entry in report["roundings"]), default=0)
    preprocessing = read_graph(tmp_path / "bare").preprocessing
    assert preprocessing is not None
    assert (preprocessing.resize, preprocessing.crop) == (40, (32, 32))
    known = read_graph(model).preprocessing
    assert known is not None
    assert preprocessing.scale_denominator == pytest.approx(known.scale_denominator / known.scale_numerator)


def test_what_is_no_model(run: Any, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    result = run("import", path, tmp_path / "out")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: {path}: ")
    assert len(result.stderr.splitlines()) == 1
    result = run("import", tmp_path / "none.onnx", tmp_path / "out")
    assert "none.onnx: cannot be read: No such file" in result.stderr
    assert not (tmp_path / "out").exists()
    result = run("export", model, tmp_path)
    assert "is a folder; name a file" in result.stderr


def test_of_several_outputs_one_is_chosen(run: Any, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    run("export", model, path)
    proto = onnx.load(path)
    first = next(node.output[0] for node in proto.graph.node if node.op_type == "Relu")
    proto.graph.output.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, [None] * 4))
    del proto.metadata_props[:]
    onnx.save(proto, path)
    last = proto.graph.output[0].name
    result = run("import", path, tmp_path / "out")
    assert result.exit_code == 3
    assert result.stderr.splitlines() == [
        f"error: {path}: has 2 outputs ('{last}', '{first}'); choose the one to keep: --output NAME"
    ]
    assert not (tmp_path / "out").exists()
    assert run("import", path, tmp_path / "out", "--output", "none").exit_code == 3
    assert run("import", path, tmp_path / "out", "--output", last).exit_code == 0
    assert list(read_graph(tmp_path / "out").outputs) == [last]


@pytest.mark.parametrize("command", ["export", "import"])
def test_without_the_extra(run: Any, model: Path, tmp_path: Path, monkeypatch: Any, command: str) -> None:
    import importlib.util
    import sys

    for name in [name for name in sys.modules if name.startswith("nybble.graph.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run(command, model, tmp_path / "out")
    assert result.exit_code == 3
    assert "pip install 'nybble[onnx]'" in result.stderr


def test_agreement_is_measured(run: Any, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "tiny.onnx"
    report = json.loads(run("export", model, out, "--json", "--limit", "5").stdout)["agreement"]
    assert [(entry["optimised"], entry["inputs"]) for entry in report["runs"]] == [(True, 5), (False, 5)]
    assert all(entry["equal_logits"] == 5 for entry in report["runs"])
    assert (report["exif"], report["left_out"], report["not_measured"]) == (False, [], None)
    result = run("import", out, tmp_path / "again", "--limit", "5")
    assert "plain: same class for 5 of 5 inputs" in result.stdout
    report = json.loads(run("import", out, tmp_path / "unchecked", "--json", "--no-check").stdout)["agreement"]
    assert (report["runs"], report["not_measured"]) == ([], "--no-check")


def test_photos_that_agreement_cannot_read_are_left_out(run: Any, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 40), "red").save(photos / "good.png")
    (photos / "bad.png").write_bytes(b"no photo")
    result = run("export", model, tmp_path / "tiny.onnx", "--images", photos, "--json", "--exif")
    assert result.exit_code == 4, result.output
    report = json.loads(result.stdout)["agreement"]
    assert report["exif"] is True
    assert [entry["file"] for entry in report["left_out"]] == ["bad.png"]


@pytest.mark.parametrize("command", ["export", "import"])
def test_photos_that_are_not_there_are_an_error_before_anything_is_written(
    run: Any, model: Path, tmp_path: Path, command: str
) -> None:
    pytest.importorskip("onnxruntime")
    source = tmp_path / "tiny.onnx"
    run("export", model, source)
    out = tmp_path / "out.onnx"
    result = run(command, model if command == "export" else source, out, "--images", tmp_path / "absent")
    assert result.exit_code == 3
    assert result.stderr == f"error: {tmp_path / 'absent'}: there is no such file or folder\n"
    assert not out.exists()
