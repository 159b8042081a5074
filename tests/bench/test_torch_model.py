"""The float model as a PyTorch module, which is a peer of the benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'nybble[quantize]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'nybble[bench]'")

from nybble.bench.engines.torch_model import _run, load_onnx  # noqa: E402
from nybble.graph import DType, Graph, Input, Mul, Quantize, Scale, Table, Tensor  # noqa: E402
from nybble.graph.onnx.float_form import write_float_model  # noqa: E402


def gated() -> Graph:
    """A table of a signed code, and its product with what it was made of."""
    codes = np.round(np.tanh(np.arange(-128, 128) / 40) * 127).astype(np.int64)
    nodes = [
        Table(
            name="table",
            inputs=("x",),
            input_type=DType.S8,
            output_type=DType.S8,
            table=Tensor.from_array(DType.S16, codes),
        ),
        Mul(name="product", inputs=("table", "x")),
        Quantize(
            name="rounded",
            inputs=("product",),
            input_type=DType.S32,
            output_type=DType.S32,
            factor=Tensor.from_array(DType.U16, np.full(3, 3)),
            shift=1,
        ),
        Scale(name="scale", inputs=("rounded",), out_scale=Tensor.from_array(DType.F32, np.full(3, 100.0))),
    ]
    return Graph([Input(name="x", dtype=DType.S8, shape=(3, 4, 5))], nodes, ["scale"])


def test_tables_and_products(tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    write_float_model(gated(), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    x = np.random.default_rng(0).uniform(-128, 128, (2, 3, 4, 5)).astype(np.float32)
    (expected,) = session.run(None, {entry.name: x})
    found = load_onnx(str(path))(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ValueError, match="LSTM is not supported here"):
        _run("LSTM", [torch.zeros(1)], {})
