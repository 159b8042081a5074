"""Faulty copies of the kernels: the emulator or the interpreter of PTX must detect each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled import nvrtc_is_there
from mutants.build import changed_source, compiler, emulated_source, emulator_objects, interpreted_source
from mutants.changes import ASSEMBLY, MUTANTS, Mutant
from mutants.differs import differs
from mutants.layers import LAYERS

from nybble.backends.cuda.device import GENERATIONS

pytestmark = pytest.mark.slow
#: Each change on one of the generations that it concerns, alternating. ``make gpu-proof`` runs all of them.
CASES = [(mutant, mutant.generations[i % len(mutant.generations)]) for i, mutant in enumerate(MUTANTS)]
ASSEMBLY_CASES = [(mutant, mutant.generations[i % len(mutant.generations)]) for i, mutant in enumerate(ASSEMBLY)]
NEEDS_COMPILER = pytest.mark.skipif(compiler() is None, reason="no C++ compiler")
NEEDS_NVRTC = pytest.mark.skipif(not nvrtc_is_there(), reason="NVRTC is not installed")


def name(value: object) -> str:
    return value.name if isinstance(value, Mutant) else str(value)


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return emulator_objects(tmp_path_factory.mktemp("emulator"))


@NEEDS_COMPILER
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_unchanged_kernels_pass(generation: int, tmp_path: Path, objects: list[Path]) -> None:
    entries = sorted({entry for layer in LAYERS.values() for entry in layer.entries})
    changed_source(None, entries, tmp_path)
    module = emulated_source(generation, tmp_path, objects)
    assert [key for key in LAYERS if differs(module, generation, key)] == []


@NEEDS_COMPILER
@pytest.mark.parametrize(("mutant", "generation"), CASES, ids=name)
def test_a_changed_kernel_is_noticed(mutant: Mutant, generation: int, tmp_path: Path, objects: list[Path]) -> None:
    changed_source(mutant, LAYERS[mutant.layer].entries, tmp_path)
    assert differs(emulated_source(generation, tmp_path, objects), generation, mutant.layer)


@NEEDS_NVRTC
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_unchanged_assembly_passes(generation: int, tmp_path: Path) -> None:
    keys = sorted({mutant.layer for mutant in ASSEMBLY})
    changed_source(None, sorted({entry for key in keys for entry in LAYERS[key].entries}), tmp_path)
    module = interpreted_source(generation, tmp_path)
    assert [key for key in keys if differs(module, generation, key)] == []


@NEEDS_NVRTC
@pytest.mark.parametrize(("mutant", "generation"), ASSEMBLY_CASES, ids=name)
def test_changed_assembly_is_noticed(mutant: Mutant, generation: int, tmp_path: Path) -> None:
    changed_source(mutant, LAYERS[mutant.layer].entries, tmp_path)
    assert differs(interpreted_source(generation, tmp_path), generation, mutant.layer)


def test_there_are_enough_of_every_kind() -> None:
    assert len(MUTANTS) >= 30
    names = [mutant.name for mutant in (*MUTANTS, *ASSEMBLY)]
    assert len(set(names)) == len(names)
