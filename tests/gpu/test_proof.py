"""The test of a GPU with a bundle, run on the emulator and on the stand-in for the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.cuda.device import Launch
from nybble.backends.cuda.emulated import EmulatedDevice
from nybble.backends.cuda.gpus import GPUS, gpu_named, least_seconds
from nybble.backends.cuda.kernels import STEMS, all_kernels
from nybble.backends.cuda.proof import __main__ as command
from nybble.backends.cuda.proof import bundle as bundles
from nybble.backends.cuda.proof import run as runs
from nybble.backends.cuda.proof.bundle import Bundle
from nybble.backends.cuda.proof.make import make_bundle
from nybble.backends.cuda.proof.probe import PARTS, probe
from nybble.backends.cuda.proof.run import Proof
from nybble.backends.cuda.structures import PARAMS, ProbeParams
from nybble.backends.errors import EngineError
from nybble.engine.noise import noise_inputs
from nybble.synthetic import bottleneck_resnet

SCRIPT = Path(__file__).with_name("on_device.sh")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    graph = bottleneck_resnet((1,), width=16, classes=5, image=16, seed=2)
    return make_bundle(graph, noise_inputs(graph, 2), {80: b"cubin"}, {"model": "small"}, batches=(1, 5))


@pytest.fixture
def file(bundle: Bundle, tmp_path: Path) -> Path:
    bundle.save(tmp_path / "small.bundle")
    return tmp_path / "small.bundle"


def test_a_bundle_comes_back_as_it_was(bundle: Bundle, file: Path) -> None:
    back = Bundle.load(file)
    assert back.programs == bundle.programs
    assert back.about == bundle.about and back.cubins == bundle.cubins
    assert back.arrays.keys() == bundle.arrays.keys()
    assert [one.images for one in back.programs["speed"]] == [1, 4]


def test_the_cases_use_every_kernel(bundle: Bundle) -> None:
    used = {launch.kernel for program in bundle.programs["cases"] for launch in program.launches}
    # Single instructions are the probe's.
    others = {name for name in PARAMS if name not in ("conv_", "join_", "stem_", "layer_probe")}
    assert used == {kernel.name for kernel in all_kernels()} | set(STEMS) | others


@NEEDS_EMULATOR
@pytest.mark.parametrize("generation", [75, 80, 90])
def test_everything_is_right_on_the_emulator(bundle: Bundle, generation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WARM_UP": 0, "RUNS": 1, "SECONDS": 0.0}.items():
        monkeypatch.setattr(runs, name, value)
    said: list[str] = []
    found = Proof(EmulatedDevice(generation, seed=1), bundle, say=said.append).run(command.PARTS)
    assert found["right"] and not found["skipped"], said
    assert set(found["probe"]) == set(PARTS)
    assert len(found["cases"]) > len(all_kernels())
    assert [one["share_of_roofline"] for one in found["speed"]] == [None, None]
    json.dumps(found, allow_nan=False)


class Wrong(EmulatedDevice):
    """A device that changes one byte of the result of some kernel, or of the probe."""

    def __init__(self, kernel: str) -> None:
        super().__init__(80)
        self.kernel = kernel

    def launch(self, launch: Launch) -> None:
        super().launch(launch)
        if launch.kernel == self.kernel:
            params = launch.params
            address = params.out if isinstance(params, ProbeParams) else params.epilogue.out.data
            byte = np.empty(1, np.uint8)
            self.read(address, byte)
            self.write(address, byte ^ 1)


@NEEDS_EMULATOR
def test_what_is_wrong_is_found_and_named(bundle: Bundle) -> None:
    said: list[str] = []
    kernel = bundle.programs["cases"][0].name
    found = Proof(Wrong(kernel), bundle, say=said.append).run(("cases",))
    assert not found["right"]
    wrong = [record for record in found["cases"] if not record["right"]]
    assert wrong and all(record["kernel"] == kernel for record in wrong if record["program"] == kernel)
    assert "elements of the first image differ; at (0, 0, 0): expected" in wrong[0]["difference"]
    states = probe(Wrong("layer_probe"))
    assert [name for name, state in states.items() if state != "right"] == ["mma u4 s4"]
    assert states["mma u4 s4"].startswith("1 of 512 words differ; thread 0, word 0: expected 0x")


@NEEDS_EMULATOR
def test_what_there_is_no_time_for_is_said(bundle: Bundle) -> None:
    found = Proof(EmulatedDevice(80), bundle, seconds=-1, say=lambda line: None).run(("network", "speed"))
    assert found["skipped"] == ["network: network", "speed: batch 1", "speed: batch 4"]


def test_what_is_no_bundle_is_refused(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "no.bundle"
    path.write_text("{}")
    with pytest.raises(EngineError, match=r"no\.bundle: is not a bundle of `nybble gpu bundle`"):
        Bundle.load(path)
    monkeypatch.setattr(bundles, "FORMAT", 0)
    bundle.save(tmp_path / "old.bundle")
    monkeypatch.undo()
    with pytest.raises(EngineError, match="is a bundle of format 0, but this version reads format 1"):
        Bundle.load(tmp_path / "old.bundle")
    monkeypatch.setattr(bundles, "MOST_BYTES", 1000)
    with pytest.raises(EngineError, match="MiB; the limit is 0 MiB; use fewer photos"):
        bundle.save(tmp_path / "large.bundle")
    with pytest.raises(EngineError, match="has code for sm_80, not for sm_90"):
        bundle.cubin_for(90)
    assert replace(bundle, cubins={80: b"a", 86: b"b"}).cubin_for(89) == b"b"


@NEEDS_EMULATOR
def test_the_script(file: Path, tmp_path: Path) -> None:
    """Needs no compiled part except the emulator, and no packages except NumPy and those of CUDA."""
    out = tmp_path / "found.json"
    done = subprocess.run(
        [SCRIPT, file, "--out", out, "--device", "sm_75", "--only", "probe,network"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["schema"] == command.SCHEMA and found["right"]
    assert set(found["sanitizer"]) == set(command.TOOLS)
    assert "all results are correct" in done.stdout


def test_the_proof_needs_numpy_alone() -> None:
    code = (
        "import sys; import nybble.backends.cuda.proof.__main__, nybble.backends.cuda.gpu\n"
        "found = {name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'__main__'}\n"
        "print(sorted(name for name in found if not name.startswith('_')), 'nybble._native' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['numpy', 'nybble'] False\n"


def test_sanitizers_that_are_absent_or_find_something(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = command._parser().parse_args([str(file), "--out", str(tmp_path / "out.json"), "--sanitize"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all("is not in PATH" in state for state in command.sanitize(asked, 1e3).values())
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\n[ "$2" = memcheck ] && exit 0\necho "========= Race"\nexit 86\n')
    tool.chmod(0o755)
    assert command.sanitize(asked, 1e3) == {
        "memcheck": "clean",
        "racecheck": "exit code 86: ========= Race",
        "initcheck": "exit code 86: ========= Race",
    }
    assert set(command.sanitize(asked, 0).values()) == {"skipped: no time is left"}


def test_the_table_of_gpus() -> None:
    assert [gpu_named(name) for name in ("NVIDIA H200", "NVIDIA L40S", "NVIDIA A100-SXM4-80GB")] == [None] * 3
    for name in ("Tesla T4", "NVIDIA A10", "NVIDIA L4", "NVIDIA GeForce RTX 3090", "NVIDIA TITAN RTX"):
        assert gpu_named(name) in GPUS, name
    t4 = gpu_named("Tesla T4")
    assert t4 is not None
    assert least_seconds(t4, 130 * 10**9, 4, 0) == pytest.approx(1e-3)
    assert least_seconds(t4, 0, 0, 320 * 10**6) == pytest.approx(1e-3)
