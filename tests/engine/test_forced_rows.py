"""``nybble verify --isa NAME --kernel ROW``: one row of the table wherever it can run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nybble.backends.cpu.choices import ChoiceError, check, convolutions, forced, methods
from nybble.backends.cpu.rows import rows
from nybble.cli import app
from nybble.engine import Engine, available_isas
from nybble.graph import Graph
from nybble.synthetic import bottleneck_resnet

ROWS = [(isa, name) for isa in available_isas() for name in rows(isa)]


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bottleneck_resnet(blocks=(1, 1), width=32, classes=10, image=32)


@pytest.mark.parametrize(("isa", "name"), ROWS)
def test_a_row_runs_wherever_it_can(graph: Graph, isa: str, name: str) -> None:
    able = {layer for layer, step in convolutions(graph).items() if name in methods(step, isa)}
    if not able:
        with pytest.raises(ChoiceError, match="can run no layer"):
            forced(graph, isa, name)
        return
    choices = forced(graph, isa, name)
    check(graph, isa, choices)
    with Engine(graph, threads=1, isa=isa, choices=choices) as engine:
        assert {layer for layer, kernel in engine.plan.kernels.items() if kernel.method == name} >= able


def test_rows_that_are_not_there(graph: Graph) -> None:
    with pytest.raises(ChoiceError, match="it has direct"):
        forced(graph, "scalar", "wide")


@pytest.mark.parametrize("options", [["--isa", "scalar"], ["--isa", "scalar", "--kernel", "direct"]])
def test_verify_forces_a_row(network_in_the_box: Path, tmp_path: Path, options: list[str]) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    (tmp_path / "labels.csv").write_text("file,label\n0.png,0\n")
    command = ["verify", str(network_in_the_box), "--images", str(tmp_path), "--json", *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["equal"], report["isa"]) == (True, "scalar")
    assert report["kernel"] == ("direct" if "--kernel" in options else None)
