"""Networks as data and the reference work where the compiled part does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nybble.graph import Conv2d, DType, Graph, Input, Tensor, write_graph

#: What a program does first so that the compiled part cannot be imported.
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == "nybble._native":
            raise ImportError("nybble._native is blocked")
sys.meta_path.insert(0, Blocker())
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = Tensor.from_array(DType.S4, np.array([[[[1]]], [[[-2]]]]))
    conv = Conv2d(name="conv", inputs=("x",), input_type=DType.U4, weight=weight)
    write_graph(Graph([Input(name="x", dtype=DType.U4, shape=(1, 1, 2))], [conv], ["conv"]), tmp_path)
    return tmp_path


def test_the_blocker_blocks() -> None:
    assert run("try: import nybble._native\nexcept ImportError as error: print(error)") == "nybble._native is blocked\n"


@pytest.mark.parametrize(
    "module",
    ["nybble", "nybble.graph", "nybble.reference", "nybble.graph.ops.conv2d", "nybble.engine", "nybble.backends"],
)
def test_it_imports(module: str) -> None:
    assert run(f"import {module}; print('done')") == "done\n"


def test_the_reference_runs_a_directory(model: Path) -> None:
    code = (
        f"import numpy as np, nybble; graph = nybble.read_graph({str(model)!r})\n"
        "from nybble.reference import interpret; print(interpret(graph, np.array([[[[3, 4]]]]))['conv'].tolist())"
    )
    assert run(code) == "[[[[3, 4]], [[-6, -8]]]]\n"


def test_the_engine_runs_on_the_reference(model: Path) -> None:
    code = (
        f"import numpy as np, nybble; engine = nybble.load({str(model)!r}, device='reference')\n"
        "print(engine.run_integer(np.array([[[[3, 4]]]], np.uint8)).tolist(), engine)"
    )
    assert run(code) == "[[[[3, 4]], [[-6, -8]]]] <nybble.Engine: 1 steps, reference, 1 threads>\n"


def test_operations_do_not_import_onnx() -> None:
    loaded = run("import nybble.graph, nybble.reference; print([m for m in ('onnx', 'torch') if m in sys.modules])")
    assert loaded == "[]\n"
