"""The arrows between the parts of the package, and how often a node's type is asked for outside its operation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nybble.graph.ops

SOURCE = Path(nybble.graph.ops.__file__).parents[2]

#: Parts of the package from the bottom up. A part imports only what lies on a lower level.
LEVELS = (
    ("graph",),
    (
        "cache",
        "disturbance",
        "examples",
        "files",
        "images",
        "interrupts",
        "progress",
        "reference",
        "schemas",
        "statistics",
        "turns",
    ),
    ("lower", "published", "synthetic", "tasks"),
    ("backends", "fetch", "models"),
    ("engine",),
    ("batch", "bench", "quantize", "serve"),
    ("catalog", "demo", "doctor", "mlperf"),
    ("report",),
    ("cli",),
    ("__main__",),
)
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}

#: Imports against the arrows, by module and part: to be removed, not to be added to.
EXCEPTIONS = {
    # Replacing a file in one step is needed below as well.
    ("nybble.graph.onnx.writer", "files"),
}

#: Modules that may import the compiled part; all others must work without it.
NATIVE = ("nybble.backends.cpu", *(f"nybble.bench.{name}" for name in ("ceilings", "isas", "restrict", "scaling")))

#: Imports that close a circle, by module and imported module: to be removed, not to be added to.
CIRCULAR = {
    # The names of the package itself are imported when they are used.
    ("nybble", "nybble.engine"),
    ("nybble", "nybble.quantize.one_call"),
}

#: Parts that know operations one by one: their folders, and the lowering.
OPERATIONS = ("nybble.graph.ops", "nybble.lower", "nybble.quantize.ops")

#: Tests of node types outside the operations and the lowering: to be lowered, never raised.
MOST_TYPE_TESTS = 4


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SOURCE.rglob("*.py")):
        name = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(file.read_text())


MODULES = dict(modules())


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of nybble's modules that a module imports anywhere, in functions and for types too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("nybble."))
        elif isinstance(node, ast.ImportFrom) and node.module == "nybble":
            yield from (f"nybble.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nybble."):
            yield str(node.module)


def modules_imported(name: str) -> set[str]:
    """Modules of nybble that a module imports, as the files that they are."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(module if module in MODULES else str(node.module) for module in inner)
    return found & MODULES.keys() - {name}


EDGES = {name: modules_imported(name) for name in MODULES}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_part_has_a_level() -> None:
    assert {part_of(name) for name in MODULES} - {"", "_native"} <= LEVEL_OF.keys() | {"lower"}


@pytest.mark.parametrize("part", [part for parts in LEVELS for part in parts])
def test_imports_go_down(part: str) -> None:
    wrong = []
    for name, tree in MODULES.items():
        if part_of(name) != part:
            continue
        for target in imported(tree):
            other = part_of(target)
            if other == part or other not in LEVEL_OF or (name, other) in EXCEPTIONS:
                continue
            if LEVEL_OF[other] >= LEVEL_OF[part]:
                wrong.append(f"{name} imports {target}")
    assert not wrong


def test_exceptions_are_needed() -> None:
    used = {(name, part_of(target)) for name, tree in MODULES.items() for target in imported(tree)}
    assert used >= EXCEPTIONS


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for target in edges[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


def test_no_imports_go_round() -> None:
    """Imports inside functions and for types count: what knows each other is one module, or a third one is missing."""
    edges = {name: {target for target in found if (name, target) not in CIRCULAR} for name, found in EDGES.items()}
    circular = [name for name in edges if name in reachable(edges, name)]
    assert not circular


@pytest.mark.parametrize("edge", sorted(CIRCULAR), ids="-".join)
def test_exempt_circles_are_there(edge: tuple[str, str]) -> None:
    name, target = edge
    assert target in EDGES[name] and name in reachable(EDGES, target)


def test_backends_do_not_import_each_other() -> None:
    for name, tree in MODULES.items():
        if name.startswith("nybble.backends."):
            family = name.split(".")[2]
            others = {target for target in imported(tree) if target.startswith("nybble.backends.")}
            shared = ("base", "errors", "kinds")
            allowed = tuple(f"nybble.backends.{part}" for part in (family, *shared))
            assert all(target.startswith(allowed) for target in others), (name, others)


def test_the_reference_shares_no_code_with_the_native_engine() -> None:
    """What a result is must not depend on what computes it."""
    below = {name for name in MODULES if name == "nybble.reference" or name.startswith("nybble.graph")}
    for name in below:
        parts = {part_of(target) for target in imported(MODULES[name])}
        assert not parts & {"engine", "backends", "lower", "_native"}, name


def test_few_modules_import_the_compiled_part() -> None:
    users = {name for name, tree in MODULES.items() if "nybble._native" in set(imported(tree))}
    assert {name for name in users if not name.startswith(NATIVE)} == set()


def test_operations_do_not_import_onnx_or_torch() -> None:
    for name, tree in MODULES.items():
        if name.startswith("nybble.graph.ops"):
            for node in ast.walk(tree):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [str(node.module)]
                assert not {found.split(".")[0] for found in names} & {"onnx", "torch"}, name


def test_the_general_modules_know_no_operation() -> None:
    """They walk the registry; a new operation edits none of them."""
    for name in ("graph.infer", "graph.layers", "graph.directory", "graph.lines", "graph.graph", "reference"):
        found = type_tests(MODULES[f"nybble.{name}"])
        assert not found, (name, found)
        strings = {node.value for node in ast.walk(MODULES[f"nybble.{name}"]) if isinstance(node, ast.Constant)}
        assert not strings & nybble.graph.ops.operations().keys(), name


def test_onnx_knows_no_operation_by_type() -> None:
    """Only readers of ONNX operators may, which make nodes of these operations."""
    for name, tree in MODULES.items():
        if name.startswith("nybble.graph.onnx") and not name.startswith("nybble.graph.onnx.operators"):
            assert not type_tests(tree), name


# ---------------------------------------------------------------------------------------------------------------------
# Tests of node types.


def type_tests(tree: ast.Module) -> list[int]:
    """Lines of ``isinstance`` and ``case`` that name an operation's node type, or a module's name for several."""
    kinds = set(nybble.graph.ops.operations())
    known: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nybble.graph"):
            known.update(alias.asname or alias.name for alias in node.names if alias.name in kinds)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple | ast.BinOp):
            targets = {target.id for target in node.targets if isinstance(target, ast.Name)}
            known.update(targets if names_in(node.value) & known else ())
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            if names_in(node.args[1]) & known:
                lines.append(node.lineno)
        elif isinstance(node, ast.MatchClass) and names_in(node.cls) & known:
            lines.append(node.cls.lineno)
    return lines


def names_in(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def test_few_tests_of_node_types() -> None:
    counts = {
        name: len(found)
        for name, tree in MODULES.items()
        if not name.startswith(OPERATIONS) and (found := type_tests(tree))
    }
    assert sum(counts.values()) <= MOST_TYPE_TESTS, counts
