"""Peers kept to an older instruction set: what a process whose CPUID is answered for it believes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nybble.bench import restrict
from nybble.bench.isas import features, of_peers
from nybble.bench.machine import describe

# NumPy asks the processor when it is imported.
_ASK = """
import ctypes, json, sys
error = ctypes.CDLL(sys.argv[1]).nybble_hide_instructions(sys.argv[2].encode())
from numpy._core._multiarray_umath import __cpu_features__ as found
print(json.dumps([error, found]))
"""
_FLAGS = {"avx2": "AVX2", "avx512bw": "AVX512BW", "avx512_vnni": "AVX512VNNI"}


def _ask(isa: str) -> tuple[int, dict[str, bool]]:
    command = [sys.executable, "-c", _ASK, str(restrict._mask()), " ".join(sorted(features(isa)))]
    error, found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return error, found


@pytest.mark.parametrize(
    ("isa", "known", "hidden"),
    [
        ("avx2", ["AVX2"], ["AVX512F", "AVX512BW", "AVX512VNNI"]),
        ("avxvnni", ["AVX2"], ["AVX512F", "AVX512BW", "AVX512VNNI"]),
        ("avx512", ["AVX2", "AVX512BW"], ["AVX512VNNI", "AVX512VBMI"]),
        ("avx512vnni", ["AVX2", "AVX512BW", "AVX512VNNI"], []),
    ],
)
def test_a_library_loaded_later_sees_an_older_processor(isa: str, known: list[str], hidden: list[str]) -> None:
    if not restrict.masks_work():
        pytest.skip("this processor or system has no CPUID faulting")
    error, found = _ask(isa)
    assert error == 0
    assert not any(found.get(name, False) for name in hidden)
    here = {_FLAGS[flag] for flag in describe()["flags"] if flag in _FLAGS}
    assert all(found[name] for name in known if name in here)


def test_an_unknown_instruction_set_is_refused() -> None:
    error, _ = _ask("mmx")
    assert error != 0


def test_a_crash_is_still_a_crash() -> None:
    if not restrict.masks_work():
        pytest.skip("this processor or system has no CPUID faulting")
    crash = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).nybble_hide_instructions(b'avx2'); ctypes.string_at(0)"
    ended = subprocess.run([sys.executable, "-c", crash, str(restrict._mask())], capture_output=True, timeout=60)
    assert ended.returncode == -11


def test_without_a_mask_only_peers_with_a_setting_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restrict, "masks_work", lambda: False)
    assert restrict.restrict("onnxruntime", "avx2") is None
    kept = restrict.restrict("openvino", "avx2")
    assert kept is not None
    assert kept.cpu_mask is None
    assert kept.environment["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_every_instruction_set_has_a_level_of_each_setting() -> None:
    """One that the table gains is found by what it needs, and is at least what it adds to."""
    assert of_peers()[0] == "avx2"
    wanted = {"avx2": "AVX2", "avxvnni": "AVX2_VNNI", "avx512": "AVX512_CORE", "avx512vnni": "AVX512_CORE_VNNI"}
    found = {isa: restrict._environment(isa)["ONEDNN_MAX_CPU_ISA"] for isa in of_peers()}
    assert found == wanted
    assert restrict._environment("avxvnni")["ATEN_CPU_CAPABILITY"] == "avx2"
