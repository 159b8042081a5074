"""Every faulty change of the kernels' source, on every generation that it concerns: ``make gpu-proof``."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiled import needs_nvrtc
from mutants.build import changed_source, emulated_source, emulator_objects, interpreted_source
from mutants.changes import ASSEMBLY, MUTANTS, Mutant
from mutants.differs import differs
from mutants.layers import LAYERS

needs_nvrtc()

CASES = [(mutant, generation) for mutant in (*MUTANTS, *ASSEMBLY) for generation in mutant.generations]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return emulator_objects(tmp_path_factory.mktemp("emulator"))


@pytest.mark.parametrize(("mutant", "generation"), CASES, ids=lambda value: getattr(value, "name", value))
def test_a_change_is_noticed(mutant: Mutant, generation: int, tmp_path: Path, objects: list[Path]) -> None:
    changed_source(mutant, LAYERS[mutant.layer].entries, tmp_path)
    is_assembly = mutant in ASSEMBLY
    module = interpreted_source(generation, tmp_path) if is_assembly else emulated_source(generation, tmp_path, objects)
    assert differs(module, generation, mutant.layer)
