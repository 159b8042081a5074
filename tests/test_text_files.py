"""Text files that people write may begin with a byte-order mark: whatever reads text takes it off."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from nybble.graph import read_graph, write_graph
from nybble.images import open_photos
from nybble.mlperf.labels import read_labels
from nybble.mlperf.layout import read_json
from nybble.synthetic import bottleneck_resnet

SOURCE = Path(__file__).resolve().parent.parent / "src" / "nybble"
#: Files that read text which no person writes: package data, the system's, the cache's.
OURS = {
    "images/names.py",
    "published.py",
    "catalog.py",
    "backends/cpu/key.py",
    "bench/worker.py",
    "bench/peers.py",
    "bench/machine.py",
    "disturbance.py",
}
MARK = "\ufeff"


def encodings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and encoding of each call that reads text; "" where it names none."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        named = {word.arg: word.value for word in node.keywords}
        strings = [
            value.value for value in node.args if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
        if name == "read_text" or (name == "open" and ("encoding" in named or strings in (["r"], ["rt"]))):
            given = named.get("encoding", node.args[0] if name == "read_text" and node.args else None)
            writes = any("w" in mode or "a" in mode for mode in strings)
            if not writes:
                yield node.lineno, given.value if isinstance(given, ast.Constant) else ""


def test_all_text_is_read_without_a_mark() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line}: {encoding or 'no encoding'}"
        for path in sorted(SOURCE.rglob("*.py"))
        if str(path.relative_to(SOURCE)) not in OURS
        for line, encoding in encodings(path)
        if encoding != "utf-8-sig"
    ]
    assert not wrong, "read what people may have written as utf-8-sig"


@pytest.mark.parametrize("name", sorted(OURS))
def test_exceptions_are_needed(name: str) -> None:
    assert any(encoding != "utf-8-sig" for _, encoding in encodings(SOURCE / name))


def test_a_mark_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    for name, text in (("labels.csv", "file,label\nx.png,1\n"), ("a.txt", "x.png 1\n"), ("b.csv", "x.png,1\n")):
        (tmp_path / name).write_text(MARK + text, encoding="utf-8")
        (photo,) = open_photos(tmp_path / name)
        assert (photo.file, photo.label) == ("x.png", 1)
        if name != "b.csv":
            assert read_labels(tmp_path / name) == [("x.png", 1)]
    (tmp_path / "x.json").write_text(f'{MARK}{{"a": 1}}', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == {"a": 1}


def test_a_mark_is_no_part_of_a_class_name(tmp_path: Path) -> None:
    write_graph(bottleneck_resnet(blocks=(1, 1, 1), width=8, image=32, classes=2), tmp_path)
    path = next(tmp_path.rglob("preprocessing")).parent / "class_names"
    path.write_text(f"{MARK}cat\ndog\n", encoding="utf-8")
    assert read_graph(tmp_path).class_names == ("cat", "dog")
