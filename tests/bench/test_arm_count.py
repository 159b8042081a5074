"""Counting of instructions on emulated processors of ARM: the plugin, ncnn's layers, the loops of an object file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nybble.graph import read_graph
from nybble.models import SHIPPED, bundled
from nybble.synthetic import bottleneck_resnet

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "arm"
sys.path.insert(0, str(FOLDER))

from loops import loops  # noqa: E402
from ncnn_param import ncnn_param  # noqa: E402

#: Each line of assembly a thousand times, and the kind that it is.
KINDS = {
    "smlal v0.8h, v1.8b, v2.8b": "smlal",
    "smlal2 v0.4s, v1.8h, v2.h[1]": "smlal",
    "umull v0.8h, v1.8b, v2.8b": "smlal",
    "mla v0.8h, v1.8h, v2.h[3]": "mla",
    "mul v0.16b, v1.16b, v2.16b": "mla",
    "sdot v0.4s, v1.16b, v2.16b": "sdot",
    "udot v0.4s, v1.16b, v2.4b[1]": "sdot",
    "usdot v0.4s, v1.16b, v2.16b": "sdot",
    "smmla v0.4s, v1.16b, v2.16b": "smmla",
    "usmmla v0.4s, v1.16b, v2.16b": "smmla",
    "fmla v0.4s, v1.4s, v2.s[1]": "float",
    "fadd d0, d1, d2": "float",
    "add v0.8h, v1.8h, v2.8h": "vector",
    "sadalp v0.4s, v1.8h": "vector",
    "tbl v0.16b, {v1.16b}, v2.16b": "vector",
    "zip1 v0.8h, v1.8h, v2.8h": "vector",
    "ldr q0, [sp]": "vector load",
    "ldp d0, d1, [sp]": "vector load",
    "ld1 {v0.16b, v1.16b}, [x9]": "vector load",
    "ld1r {v0.4s}, [x9]": "vector load",
    "str q0, [sp]": "vector store",
    "stur d0, [sp, #8]": "vector store",
    "st1 {v0.8b}, [x9]": "vector store",
    "ldrh w10, [sp]": "load",
    "ldp x10, x11, [sp]": "load",
    "strb w10, [sp]": "store",
    "stp x10, x11, [sp]": "store",
    "madd x10, x11, x12, x13": "other",
}
PROGRAM = """
.arch armv8.2-a+dotprod+i8mm
.global _start
_start:
  sub sp, sp, #64
  mov x9, sp
  {mark}
  .rept 1000
  {instruction}
  .endr
  {mark}
  mov x8, #93
  mov x0, #0
  svc #0
"""
MARK = "mov x8, #141\n mov x0, #0x6e79\n mov x1, #1\n svc #0"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("c++", "aarch64-linux-gnu-gcc", "qemu-aarch64"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    target = tmp_path_factory.mktemp("plugin") / "count.so"
    options = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["c++", *options, FOLDER / "plugin.cpp", "-o", target], check=True)
    return target


@pytest.mark.parametrize("instruction", KINDS)
def test_an_instruction_is_counted_by_its_kind(plugin: Path, tmp_path: Path, instruction: str) -> None:
    source, program = tmp_path / "program.s", tmp_path / "program"
    source.write_text(PROGRAM.format(mark=MARK, instruction=instruction))
    subprocess.run(["aarch64-linux-gnu-gcc", "-nostdlib", "-static", source, "-o", program], check=True)
    command = ["qemu-aarch64", "-cpu", "max", "-plugin", plugin, program]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    first, second = (json.loads(line) for line in lines)
    counted = {kind: second[kind] - first[kind] for kind in first if kind != "mark"}
    # The second mark itself is three moves and the call, which is a branch in the encoding.
    expected = Counter({KINDS[instruction]: 1000}) + Counter(other=3, branch=1)
    assert {kind: count for kind, count in counted.items() if count} == expected


@pytest.mark.parametrize("name", ["shipped", "residual"])
def test_every_blob_of_ncnn_has_one_source_and_one_reader(name: str) -> None:
    found = bundled(SHIPPED)
    assert found is not None
    graph = read_graph(found / "model") if name == "shipped" else bottleneck_resnet((2, 2), 16, classes=10, image=32)
    text, last = ncnn_param(graph)
    first, counts, *layers = text.splitlines()
    assert first == "7767517"
    made: list[str] = []
    read: list[str] = []
    for layer in layers:
        _, _, inputs, outputs, *names = layer.split()
        blobs = names[: int(inputs) + int(outputs)]
        read += blobs[: int(inputs)]
        made += blobs[int(inputs) :]
    assert counts == f"{len(layers)} {len(made)}"
    assert len(set(made)) == len(made)
    # What is split is read by its Split alone.
    assert Counter(read) == Counter(blob for blob in made if blob != last)


def test_innermost_loops_with_products() -> None:
    listing = """
0000000000000000 <kernel(int)>:
   0:\tmov\tx1, #0x0
   4:\tldr\tq0, [x0], #16
   8:\tsdot\tv1.4s, v0.16b, v2.4b[1]
   c:\tsmlal2\tv3.8h, v0.16b, v2.16b
  10:\tcbz\tw3, 20 <kernel(int)+0x20>
  14:\tsubs\tx1, x1, #0x1
  18:\tb.ne\t4 <kernel(int)+0x4>  // b.any
  1c:\ttbnz\tw1, #3, 0 <kernel(int)>
  20:\tret
"""
    (found,) = loops(listing)
    assert found.function == "kernel(int)"
    assert [text.split()[0] for text in found.code] == ["ldr", "sdot", "smlal2", "cbz", "subs", "b.ne"]
    assert found.products == 16 + 8
