"""``--device`` of every command that takes an engine."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from emulated_gpu import NEEDS_EMULATOR

COMMANDS = {
    "classify": "{model} {photos}/0.png --top 1",
    "evaluate": "{model} --images {photos} --limit 1",
    "verify": "{model} --images {photos} --limit 1 --layers",
    "profile": "{model} --images {photos} --limit 1 --runs 1",
}
NEEDS_LOADGEN = pytest.mark.skipif(
    find_spec("mlperf_loadgen") is None, reason="mlperf_loadgen is not installed (pip install mlcommons-loadgen)"
)


def run(command: str, line: str, device: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = [*command.split(), *line.split(), "--device", device, *more]
    return subprocess.run([sys.executable, "-m", "nybble", *arguments], capture_output=True, text=True, check=False)


def right(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@NEEDS_EMULATOR
@pytest.mark.parametrize("command", COMMANDS)
def test_it_runs_on_the_emulated_gpu(command: str, model: Path, photos: Path) -> None:
    line = COMMANDS[command].format(model=model, photos=photos)
    found = right(run(command, line, "cuda-emulated", "--json"))
    assert found["device"] == "cuda-emulated" and found["isa"] == "sm_80 (emulated)"
    if command == "verify":
        assert found["equal"] and found["steps"] > 3
    if command == "profile":
        layers = found["layers"]
        assert not found["tuned"]
        assert any(layer["kernel"].startswith("conv_u4s4_") and layer["macs"] for layer in layers)
        assert all(layer["zero_pair_share"] is None and layer["kind"] != "lists" for layer in layers)


def test_a_profile_of_the_reference_has_nodes(model: Path, photos: Path) -> None:
    found = right(run("profile", COMMANDS["profile"].format(model=model, photos=photos), "reference", "--json"))
    assert {"conv2d", "quantize"} <= {layer["kind"] for layer in found["layers"]}


@NEEDS_EMULATOR
def test_bench_says_which_gpu_and_that_it_has_no_roofline(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    line = f"{model} --images {photos} --limit 1 --seconds 0 --batch 1 --no-dense --output {out}"
    done = run("bench", line, "cuda-emulated")
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["settings"]["device"] == "cuda-emulated" and found["scaling"] is None
    assert found["roofline"] == [{"contestant": "nybble 4-bit", "gpu": "sm_80 (emulated)", "batch": 1, "share": None}]
    assert "roofline  nybble 4-bit, batch 1, on sm_80 (emulated): not known for this GPU" in done.stdout
    refused = run("bench", f"{model} --ceilings", "cuda-emulated")
    assert refused.returncode == 2 and "--ceilings are those of the CPU" in refused.stderr


@NEEDS_EMULATOR
@NEEDS_LOADGEN
def test_mlperf_runs_on_it_and_counts_no_accelerator(model: Path, photos: Path, tmp_path: Path) -> None:
    conf = tmp_path / "user.conf"
    conf.write_text("*.*.min_duration = 100\n*.*.min_query_count = 1\n")
    out = tmp_path / "mlperf"
    line = f"{model} --images {photos} --limit 2 --user-conf {conf} --out {out} --batch 2 --mode accuracy"
    right(run("mlperf run", line, "cuda-emulated", "--json"))
    (system,) = out.rglob("systems/*.json")
    about = json.loads(system.read_text())
    assert about["accelerators_per_node"] == 0 and about["accelerator_model_name"] == "N/A"


@pytest.mark.parametrize("command", [*COMMANDS, "mlperf run"])
def test_what_is_not_there_is_refused_in_one_line(command: str, model: Path, photos: Path, tmp_path: Path) -> None:
    lines = {**COMMANDS, "mlperf run": f"{{model}} --images {{photos}} --out {tmp_path}/out"}
    done = run(command, lines[command].format(model=model, photos=photos), "tpu")
    if command == "mlperf run" and find_spec("mlperf_loadgen") is None:
        pytest.skip("mlperf_loadgen is not installed (pip install mlcommons-loadgen)")
    assert done.returncode == 3
    assert done.stderr.startswith("error: device='tpu': there is no such backend (known: cpu, cuda, cuda-emulated, ")
    assert done.stderr.count("\n") == 1
