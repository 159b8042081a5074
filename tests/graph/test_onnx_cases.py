"""The QDQ files that lie outside the repository, made after bug reports: imported, and compared with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from saturation import saturates

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from nybble.graph.onnx import OnnxImportError, import_onnx  # noqa: E402 - needs onnx
from nybble.reference import interpret  # noqa: E402

#: File: of 200 inputs, the part whose class is ONNX Runtime's, plain and optimised. In the second float32 decides
#: halves of averages in the plain run; the last has a shortcut that nothing quantizes.
CASES = {
    "import-maxpool-unquantized/misplaced.onnx": (0.99, 0.99),
    "import-nncf-depthwise/nncf_performance.onnx": (0.98, 0.98),
    "import-operand-order/gemm_ab.onnx": (0.99, 0.99),
    "import-operand-order/maxmin.onnx": (0.99, 0.99),
    "import-pruned/scale0.onnx": (0.99, 0.99),
    "import-qcdq/brevitas_w4.onnx": (0.99, 0.99),
    "import-qcdq/small.onnx": (0.99, 0.99),
    "qdq-avgpool-signed/import.onnx": (0.9, 0.97),
    "import-tensorrt-qat/torchqat.onnx": (0.95, 0.95),
}


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"the case files are not there: no folder {folder}")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_imported(cases: Path, case: str) -> None:
    made = import_onnx(cases / case)
    (entry,) = made.graph.inputs
    photos = np.random.default_rng(0).normal(size=(200, *entry.shape)).astype(np.float32)
    assert made.input_scale is not None
    codes = np.rint(photos / np.float32(made.input_scale)).clip(entry.dtype.minimum, entry.dtype.maximum)
    found = interpret(made.graph, codes.astype(entry.dtype.storage))[made.graph.outputs[0]]
    levels = onnxruntime.GraphOptimizationLevel
    runs = list(zip((levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL), CASES[case], strict=True))
    for level, least in runs[:1] if saturates() else runs:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.intra_op_num_threads = level, 1
        session = onnxruntime.InferenceSession(cases / case, options, providers=["CPUExecutionProvider"])
        wanted = session.run(None, {session.get_inputs()[0].name: photos})[0]
        assert np.mean(found.argmax(axis=1) == wanted.argmax(axis=1)) >= least
        assert np.abs(found - wanted).mean() < wanted.std() / 15


def test_of_two_outputs_one_is_named(cases: Path) -> None:
    path = cases / "import-two-outputs" / "two_outs.onnx"
    with pytest.raises(OnnxImportError, match="has 2 outputs"):
        import_onnx(path)
    made = import_onnx(path, output="gemm21")
    assert made.graph.values[made.graph.outputs[0]].shape == (10,)
