"""Damaged, foreign and malicious files: one clear error each, never anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from comparison import assert_equal
from hypothesis import HealthCheck, given, settings

from nybble.graph import NybbleError
from nybble.synthetic import bottleneck_resnet

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - needs onnx

from nybble.graph.onnx import OnnxImportError, from_onnx, import_onnx, to_onnx  # noqa: E402

GRAPH = bottleneck_resnet(blocks=(1,), width=4, classes=3, image=8)
MODEL = to_onnx(GRAPH).model
CONTENT = MODEL.SerializeToString()


def _changed(change: Callable[[Any], object]) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    change(model)
    return model


def _constant(model: Any, name: str) -> Any:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def _set(model: Any, name: str, values: Any) -> None:
    tensor = _constant(model, name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def _node(model: Any, name: str) -> Any:
    return next(node for node in model.graph.node if node.name == name)


def _scale(model: Any, value: float) -> None:
    _set(model, "quantize1/unit", np.float32(value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: _scale(m, 0.0), "scale is not a positive number"),
        (lambda m: _scale(m, np.nan), "scale is not a positive number"),
        (lambda m: setattr(_node(m, "conv1"), "op_type", "ConvTranspose"), "conv1: operator ConvTranspose is not"),
        (lambda m: _node(m, "conv1").input.__setitem__(1, "input/stored"), "conv1: its weight must be a constant"),
        (lambda m: setattr(_constant(m, "conv1/weight/stored"), "raw_data", b"1"), "'conv1/weight/stored' cannot be"),
        (lambda m: _constant(m, "conv1/weight/stored").dims.__setitem__(0, 1 << 40), "impossible shape"),
        (lambda m: m.graph.input[0].type.tensor_type.shape.dim[2].Clear(), "with fixed C, H and W"),
        (lambda m: m.graph.node.pop(0), "reads 'input', which nothing has quantized|which nothing makes"),
        (lambda m: _set(m, "input/unit", np.float32(np.inf)), "scale is not a positive number"),
        (lambda m: helper.set_model_props(m, {"nybble.nodes": "["}), "metadata property nybble.nodes"),
        (lambda m: helper.set_model_props(m, {"nybble.nodes": '{"quantize1": {"shift": 99}}'}), "shift 99 is not in"),
        (lambda m: helper.set_model_props(m, {"nybble.class_names": "[1]"}), "metadata property nybble.class_names"),
        (lambda m: helper.set_model_props(m, {"nybble.preprocessing": "{}"}), "metadata property nybble.preprocessing"),
        (lambda m: helper.set_model_props(m, {"nybble.class_names": '["one"]'}), "1 class names, but"),
        (lambda m: _set(m, "quantize1/zero", np.uint8(3)), "zero point"),
    ],
)
def test_each_fault_is_named(change: Callable[[Any], object], message: str) -> None:
    with pytest.raises(NybbleError, match=message):
        from_onnx(_changed(change))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for content, message in (
        (b"", "has no nodes"),
        (b"hello world", "is not an ONNX model"),
        (CONTENT[: len(CONTENT) // 2], "is not an ONNX model"),
    ):
        path.write_bytes(content)
        with pytest.raises(OnnxImportError, match=message):
            import_onnx(path)
    with pytest.raises(OnnxImportError, match=r"not a regular file|cannot be read"):
        import_onnx(tmp_path)

    def outside(model: Any) -> None:
        tensor = _constant(model, "conv1/weight/stored")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")

    path.write_bytes(_changed(outside).SerializeToString())
    with pytest.raises(OnnxImportError, match="only files in the model's own folder are read"):
        import_onnx(path)
    path.write_bytes(_changed(lambda model: setattr(model.opset_import[0], "version", 7)).SerializeToString())
    with pytest.raises(OnnxImportError, match="operator set"):
        import_onnx(path)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    """As PyTorch's default exporter writes them."""
    onnx.save_model(
        _changed(lambda model: None),
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    assert (tmp_path / "model.onnx.data").stat().st_size > 0
    (tmp_path / "whole.onnx").write_bytes(CONTENT)
    found, expected = (import_onnx(tmp_path / name).graph for name in ("model.onnx", "whole.onnx"))
    assert_equal(found, expected)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(OnnxImportError, match="No such file"):
        import_onnx(tmp_path / "model.onnx")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_a_graph_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(content))
    try:
        import_onnx(path)
    except NybbleError as error:
        assert str(path) in str(error)
        assert len(str(error)) < 1200
