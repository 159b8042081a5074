"""What the benchmark says of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from nybble.bench.isas import family, features, has_byte_tiles, has_dot_products, of_peers
from nybble.bench.machine import BYTE_TILES, describe
from nybble.cli.bench import _show_machine


def test_tiles_of_bytes_are_found_where_the_system_finds_them() -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), None)
    if flags is None:
        pytest.skip("the processor's features are not in /proc/cpuinfo")
    assert has_byte_tiles() == ({"amx_tile", "amx_int8"} <= flags)


@pytest.mark.parametrize("has_tiles", [False, True])
def test_a_user_with_amx_is_told_to_use_eight_bits(has_tiles: bool, capsys: pytest.CaptureFixture[str]) -> None:
    _show_machine({**describe(), "byte_tiles": has_tiles})
    assert (BYTE_TILES in capsys.readouterr().out) == has_tiles
    assert "use 8 bits" in BYTE_TILES


def test_instruction_sets_are_asked_of_the_table() -> None:
    """Those of other processors too: a result may come from another machine."""
    assert of_peers() == ["avx2", "avx512", "avxvnni", "avx512vnni"]
    assert family("avxvnni") == ["avxvnni", "avx2"]
    assert family("avx512vnni") == ["avx512vnni", "avx512"]
    assert family("something else") == ["something else"]
    assert [isa for isa in of_peers() if has_dot_products(isa)] == ["avxvnni", "avx512vnni"]
    assert "avx_vnni" in features("avxvnni")
    assert not features("something else")
