"""Tuned choices in the cache: used where they fit, ignored with a warning where they do not, never an error."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agreement import assert_engine_agrees

import nybble
from nybble import files
from nybble.backends.cpu import key, tuned
from nybble.backends.cpu.choices import ChoiceError, Choices, candidates, convolutions
from nybble.backends.cpu.kernel import Kernel
from nybble.backends.cpu.order import order_classes
from nybble.engine import Engine
from nybble.graph import Graph, read_graph, write_graph
from nybble.graph.digest import model_digest
from nybble.lower import fuse
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet, clouds

ISA = nybble.available_isas()[-1]
GRAPH = bottleneck_resnet(blocks=(1, 1), width=8, classes=10, image=16, seed=2)
IMAGES = clouds(np.random.RandomState(0), 3, 16)
EXPECTED = interpret(GRAPH, IMAGES, keep=None)


def drawn_choices(graph: Graph, isa: str, seed: int = 0) -> Choices:
    random = np.random.default_rng(seed)
    kernels = {}
    for name, step in convolutions(graph).items():
        found = candidates(step, isa)
        kernels[name] = found[int(random.integers(len(found)))]
    orders = {}
    for values in order_classes(fuse(graph)):
        order = random.permutation(graph.values[values[0]].shape[0])
        orders.update(dict.fromkeys(values, order))
    return Choices(kernels, orders)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path))
    monkeypatch.delenv("NYBBLE_TUNED")
    return tmp_path


@pytest.fixture
def stored() -> Path:
    return tuned.save_choices(GRAPH, ISA, 1, drawn_choices(GRAPH, ISA))


def test_nothing_is_tuned_at_first(own_cache: Path) -> None:
    assert tuned.load_choices(GRAPH, ISA, 1) is None
    assert not Engine(GRAPH, threads=1).plan.tuned
    assert list(own_cache.iterdir()) == []


@pytest.mark.parametrize("isa", nybble.available_isas())
@pytest.mark.parametrize("seed", range(3))
def test_what_is_stored_is_used_and_changes_no_result(isa: str, seed: int) -> None:
    choices = drawn_choices(GRAPH, isa, seed)
    path = tuned.save_choices(GRAPH, isa, 2, choices)
    assert path.parent == tuned.folder()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    engine = Engine(GRAPH, threads=2, isa=isa)
    assert engine.plan.tuned
    for name, kernel in choices.kernels.items():
        assert replace(engine.plan.kernels[name], list_block=0) == replace(kernel, list_block=0)
    if isa != "scalar":
        for name, order in choices.orders.items():
            assert np.array_equal(engine.plan.orders[name], order)
    assert_engine_agrees(engine, IMAGES, EXPECTED)


def test_it_is_used_for_the_same_model_read_from_disk_only(stored: Path, tmp_path: Path) -> None:
    write_graph(GRAPH, tmp_path / "same")
    other = bottleneck_resnet(blocks=(1, 1), width=8, classes=10, image=16, seed=3)
    write_graph(other, tmp_path / "other")
    assert model_digest(read_graph(tmp_path / "same")) == model_digest(GRAPH)
    assert nybble.load(tmp_path / "same", threads=1).plan.tuned
    assert not nybble.load(tmp_path / "other", threads=1).plan.tuned
    assert not nybble.load(tmp_path / "same", threads=2).plan.tuned
    assert not nybble.load(tmp_path / "same", threads=1, isa="scalar").plan.tuned


def test_it_can_be_turned_off(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Engine(GRAPH, threads=1).plan.tuned
    assert not Engine(GRAPH, threads=1, tuned=False).plan.tuned
    monkeypatch.setenv("NYBBLE_TUNED", "0")
    assert not Engine(GRAPH, threads=1).plan.tuned


@pytest.mark.parametrize("what", ["cpu_identity", "__version__"])
def test_another_processor_or_version_has_its_own(stored: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "cpu_identity":
        monkeypatch.setattr(key, what, lambda: "another")
    else:
        monkeypatch.setattr(nybble, what, "99")
    assert not Engine(GRAPH, threads=1).plan.tuned


Change = Callable[[dict[str, Any]], object]


def first_order(document: dict[str, Any]) -> list[int]:
    return next(iter(document["orders"].values()))


def first_kernel(document: dict[str, Any]) -> dict[str, Any]:
    return next(iter(document["kernels"].values()))


def a_duplicate(document: dict[str, Any]) -> None:
    order = first_order(document)
    order[0] = order[1]


BROKEN: dict[str, Change] = {
    "format": lambda d: d.update(format=999),
    "no format": lambda d: d.pop("format"),
    "extra field": lambda d: d.update(more=1),
    "no kernels": lambda d: d.pop("kernels"),
    "other model": lambda d: d["key"].update(model="0" * 64),
    "other version": lambda d: d["key"].update(nybble="0.0"),
    "other threads": lambda d: d["key"].update(threads=7),
    "duplicates": a_duplicate,
    "short order": lambda d: first_order(d).pop(),
    "negative": lambda d: first_order(d).__setitem__(0, -1),
    "huge": lambda d: first_order(d).__setitem__(0, 1 << 80),
    "order of text": lambda d: first_order(d).__setitem__(0, "x"),
    "order of floats": lambda d: first_order(d).__setitem__(0, 0.5),
    "unknown value": lambda d: d["orders"].update(nothing=[0]),
    "fixed value": lambda d: d["orders"].update(input=[2, 1, 0]),
    "unknown layer": lambda d: d["kernels"].update(nothing=first_kernel(d)),
    "method": lambda d: first_kernel(d).update(method="magic"),
    "outputs": lambda d: first_kernel(d).update(block_outputs=33),
    "many outputs": lambda d: first_kernel(d).update(block_outputs=1 << 70),
    "pixels": lambda d: first_kernel(d).update(tile_pixels=0),
    "list block": lambda d: first_kernel(d).update(list_block=17),
    "lists of the input": lambda d: first_kernel(d).update(method="sparse", list_block=16),
    "kernel without method": lambda d: first_kernel(d).pop("method"),
    "kernel of text": lambda d: d["kernels"].update(quantize1="sparse"),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_right_is_ignored(stored: Path, change: Change) -> None:
    document = json.loads(stored.read_text())
    change(document)
    stored.write_text(json.dumps(document))
    assert_ignored(stored)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", "\x00\xff", '{"format": 1}', "[" * 100_000])
def test_a_file_that_is_no_document_is_ignored(stored: Path, text: str) -> None:
    stored.write_bytes(text.encode("latin-1"))
    assert_ignored(stored)


def test_a_truncated_file_is_ignored(stored: Path) -> None:
    whole = stored.read_bytes()
    for size in (1, len(whole) // 2, len(whole) - 2):
        stored.write_bytes(whole[:size])
        assert_ignored(stored)


def test_a_folder_in_place_of_the_file_is_ignored(stored: Path) -> None:
    stored.unlink()
    stored.mkdir()
    assert_ignored(stored)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read_is_ignored(stored: Path) -> None:
    stored.chmod(0)
    assert_ignored(stored)


def test_what_only_the_native_part_refuses_is_ignored(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices = Choices({name: Kernel("magic") for name in convolutions(GRAPH)})
    monkeypatch.setattr("nybble.backends.cpu.executable.load_choices", lambda *key: choices)
    with pytest.warns(tuned.TunedChoicesWarning, match="ignored"):
        engine = Engine(GRAPH, threads=1)
    assert not engine.plan.tuned
    assert_engine_agrees(engine, IMAGES, EXPECTED)


def assert_ignored(path: Path) -> None:
    with pytest.warns(tuned.TunedChoicesWarning, match="ignored") as caught:
        engine = Engine(GRAPH, threads=1, isa=ISA)
    assert str(path) in str(caught[0].message)
    assert "\n" not in str(caught[0].message)
    assert not engine.plan.tuned
    assert_engine_agrees(engine, IMAGES, EXPECTED)


def test_what_is_not_legal_is_not_stored() -> None:
    with pytest.raises(ChoiceError):
        tuned.save_choices(GRAPH, ISA, 1, Choices({"nothing": Kernel("direct")}))
    assert not tuned.folder().exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_text(path, "one", files.OWN)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write_text(path, "two", files.OWN)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "one"


def test_the_digest_depends_on_all_that_is_computed() -> None:
    digest = model_digest(GRAPH)
    assert digest == model_digest(bottleneck_resnet(blocks=(1, 1), width=8, classes=10, image=16, seed=2))
    renamed = Graph(GRAPH.inputs, GRAPH.nodes, [GRAPH.nodes[-2].name])
    assert model_digest(renamed) != digest
    named = Graph(GRAPH.inputs, GRAPH.nodes, GRAPH.outputs, class_names=[f"name {i}" for i in range(10)])
    assert model_digest(named) == digest


def test_an_engine_with_defaults_warns_of_nothing(stored: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Engine(GRAPH, threads=1, isa=ISA).plan.tuned
