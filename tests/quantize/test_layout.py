"""The arrows between the packages of quantize, and that the front ends know no operation by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nybble.quantize
from nybble.quantize.ops import onnx_operators, operations

SOURCE = Path(nybble.quantize.__file__).parent

#: From the bottom up. A package imports only what lies on a lower level, but for types.
LEVELS = (
    ("errors",),
    ("extra", "settings"),
    ("atomic", "config", "ir"),
    ("data", "fake"),
    ("ops",),
    ("sources",),
    ("prepare",),
    ("lower",),
    ("calibrate",),
    ("ptq",),
    ("train",),
    ("pipeline",),
    ("one_call",),
)
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}


def imported(tree: ast.AST) -> Iterator[str]:
    """Parts of quantize that a module imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nybble.quantize"):
            names = node.module.split(".")[2:3] if node.module != "nybble.quantize" else [it.name for it in node.names]
            yield from names
        yield from imported(node)


def test_every_part_has_a_level() -> None:
    parts = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert parts - {"__init__"} == LEVEL_OF.keys()


@pytest.mark.parametrize("part", LEVEL_OF)
def test_imports_go_down(part: str) -> None:
    files = [SOURCE / f"{part}.py"] if (SOURCE / f"{part}.py").exists() else sorted((SOURCE / part).rglob("*.py"))
    wrong = [
        f"{file.relative_to(SOURCE)} imports {other}"
        for file in files
        for other in imported(ast.parse(file.read_text()))
        if other != part and LEVEL_OF[other] >= LEVEL_OF[part]
    ]
    assert not wrong


@pytest.mark.parametrize(
    "module", ["sources/onnx/network", "sources/onnx/signature", "sources/pytorch/walk", "sources/pytorch/capture"]
)
def test_the_front_ends_know_no_operation_by_name(module: str) -> None:
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    targets = {target for operation in operations() for target in operation.forms.of_aten}
    known = onnx_operators() | targets | {f"aten.{target}" for target in targets}
    assert not strings & known
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    of_operations = {type(operation).__module__ for operation in operations()}
    assert not modules & of_operations
