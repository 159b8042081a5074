"""The native code's structure: which folder includes which, and what objects of an instruction set may hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from nybble import _native

REPOSITORY = Path(__file__).resolve().parents[2]
NATIVE = REPOSITORY / "native"
SOURCES = sorted(path for path in NATIVE.rglob("*") if path.suffix in (".h", ".cpp"))
#: Those of every processor: a build need not have them all (NYBBLE_ISAS), and the files are the same.
KNOWN_ISAS = {path.stem for path in NATIVE.glob("kernels/isas/*.h")}
#: Folders that each folder of native code may include, besides itself.
MAY_INCLUDE: dict[str, set[str]] = {
    "base": set(),
    "kernels": {"base"},
    "core": {"base", "kernels"},
    "steps": {"base", "kernels", "core"},
    "ceilings": {"base"},
    "cpu_mask": set(),
    "gpu": set(),
    "bindings": {"base", "kernels", "core", "steps", "ceilings", "gpu"},
}
INCLUDE = re.compile(r'^#include "(.*)"', re.MULTILINE)


def included(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(NATIVE).as_posix())
def test_folders_include_only_those_below_them(path: Path) -> None:
    folder = path.relative_to(NATIVE).parts[0]
    for name in included(path):
        assert (NATIVE / name).is_file(), f"{name} is not there"
        assert name.split("/")[0] in MAY_INCLUDE[folder] | {folder}


def test_gpu_kernels_include_nothing_that_a_gpu_lacks() -> None:
    """NVRTC has no standard library; only one file knows that there is an emulator."""
    for path in NATIVE.glob("gpu/kernels/*"):
        assert "#include <" not in path.read_text(), path.name
        outside = [name for name in included(path) if not name.startswith("gpu/kernels/")]
        assert outside == (["gpu/emulator/device.h"] if path.name == "device.h" else []), path.name


def test_no_file_includes_itself_by_way_of_others() -> None:
    # Raises CycleError, which names the files.
    list(TopologicalSorter({path.relative_to(NATIVE).as_posix(): included(path) for path in SOURCES}).static_order())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(NATIVE).as_posix())
def test_nothing_is_included_inside_a_namespace(path: Path) -> None:
    """So that a file's includes say what it needs, not what happens to be open around it."""
    depth = 0
    for line in path.read_text().splitlines():
        depth += line.startswith("namespace ") and line.endswith("{")
        depth -= line.startswith("}  // namespace")
        assert not (depth and line.startswith("#include")), line


@pytest.mark.parametrize("path", sorted(NATIVE.glob("kernels/**/*.inc.h")), ids=lambda path: path.name)
def test_kernels_know_no_instruction_set(path: Path) -> None:
    """Intrinsics and their types are in the vector types, and in versions for one instruction set, ISA.inc.h."""
    if path.name.removesuffix(".inc.h") not in KNOWN_ISAS:
        assert not re.search(r"_mm\d*_|__m\d+|immintrin|Avx|avx", path.read_text())


def objects() -> list[Path]:
    """Of the files that are compiled for an instruction set, in the newest plain build that there is.

    They are made by nybble_operation() in native/operations.cmake: generated/kernels/OPERATION/ISA.cpp. Tests of a
    build for another processor name its folder in ``NYBBLE_OBJECTS``.
    """
    if named := os.environ.get("NYBBLE_OBJECTS"):
        return _of_instruction_sets(Path(named))
    folders = [
        folder
        for folder in REPOSITORY.glob("build/**/nybble_core.dir")
        if (folder / "generated").is_dir()
        and not {"sanitize", "threads", "cross", "emulated", "fuzz", "wheels"}
        & set(folder.relative_to(REPOSITORY).parts)
    ]
    newest = max(folders, key=lambda folder: (folder / "generated").stat().st_mtime, default=None)
    return [] if newest is None else _of_instruction_sets(newest)


def _of_instruction_sets(folder: Path) -> list[Path]:
    names = {f"{isa}.cpp.o" for isa in KNOWN_ISAS}
    return sorted(path for path in folder.rglob("*.o") if path.name in names)


def test_objects_of_an_instruction_set_have_no_static_constructors() -> None:
    """They would run when the module is loaded, on processors that lack the instructions.

    Nor may they define what the linker could keep for all, in place of another object's copy.
    """
    found = objects()
    if not found or shutil.which("nm") is None or shutil.which("objdump") is None:
        pytest.skip("no objects of a build in build/, or no binutils")
    operations = {path.parent.name for path in NATIVE.glob("kernels/*/kernels.inc.h")}
    for isa in _native.built_isas():
        made = {path.parent.name for path in found if path.name == f"{isa}.cpp.o"}
        assert operations <= made, f"{isa}: no objects of {sorted(operations - made)}"
    for path in found:
        sections = subprocess.run(["objdump", "-h", path], capture_output=True, text=True, check=True).stdout
        assert not re.search(r"\.(init_array|ctors|preinit_array)", sections), path.name
        symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
        assert "_GLOBAL__sub_I" not in symbols, path.name
        assert not re.findall(r"^[0-9a-f]+ [WVu] .*", symbols, re.MULTILINE), path.name


def test_the_core_knows_no_operation() -> None:
    """A new one adds files, and a line of native/CMakeLists.txt: its kernels, its step and its bindings."""
    operations = re.findall(r"^nybble_operation\((\w+)\)$", (NATIVE / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert {"conv", "table", "mul"} <= set(operations)
    for name in ("program.h", "program.cpp", "step.h", "thread_pool.cpp", "shares.h"):
        text = (NATIVE / "core" / name).read_text()
        for operation in set(operations) - {"lists", "table"}:
            named = rf"(?<!std::)\b(add_)?{operation}\b|{operation.capitalize()}Spec"
            assert not re.search(named, text), f"{name}: {operation}"
    bound = (NATIVE / "bindings" / "module.cpp").read_text()
    assert not re.search(r"add_\w+Spec|\w+Spec>", bound)


def test_every_instruction_set_is_one_line_and_its_own_files() -> None:
    lines = re.findall(r"^nybble_isa\((\w+)", (NATIVE / "CMakeLists.txt").read_text(), re.MULTILINE)
    assert set(_native.built_isas()) <= set(lines)
    assert set(lines) == KNOWN_ISAS
    folders = {"isas", "simd", "ceilings", "cpu_mask"}
    # kernels/OPERATION/ISA.inc.h is a version for that instruction set.
    others = [path for path in SOURCES if path.parts[-2] not in folders and path.name.split(".")[0] not in lines]
    for path in others:
        for isa in set(lines) - {"scalar"}:
            assert isa not in re.sub(r"//.*", "", path.read_text()), f"{path.name} names {isa}"
