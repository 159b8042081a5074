"""The network that comes with nybble: small, described, the engine's answers the reference's, and right."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nybble
from nybble.demo import read_answers, samples
from nybble.demo.photos import PHOTOS, fingerprint
from nybble.images import integer_input, load_photo
from nybble.models import SHIPPED, find
from nybble.reference import interpret

MOST_BYTES = 6_000_000
#: What the figures are called in the card until they are measured.
UNFILLED = re.compile(r"⟦[^⟧]*⟧")


def test_it_is_found_without_being_named(network_in_the_box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NYBBLE_MODEL", raising=False)
    assert find().name == SHIPPED
    assert find().path.samefile(network_in_the_box)


def test_it_is_small(network_in_the_box: Path) -> None:
    assert sum(file.stat().st_size for file in network_in_the_box.rglob("*") if file.is_file()) < MOST_BYTES


def test_its_card_is_filled_in(network_in_the_box: Path) -> None:
    card = (network_in_the_box / "README.md").read_text(encoding="utf-8")
    assert UNFILLED.findall(card) == []


def test_engine_and_reference_agree_on_a_photo(network_in_the_box: Path) -> None:
    pytest.importorskip("skimage")
    graph = nybble.read_graph(network_in_the_box)
    assert graph.preprocessing is not None
    photo = load_photo(samples()[0][1], graph.preprocessing)[None]
    expected = interpret(graph, integer_input(photo, graph.preprocessing))[graph.outputs[0]]
    with nybble.Engine(graph, threads=1) as engine:
        np.testing.assert_array_equal(engine(photo).view(np.uint32), expected.view(np.uint32))


def test_it_is_right_on_the_sample_photos(network_in_the_box: Path) -> None:
    pytest.importorskip("skimage")
    known = [(sample, path) for sample, path in samples() if sample.classes]
    with nybble.load(network_in_the_box, threads=1) as engine:
        answers = engine.classify([path for _, path in known], top=1)
    wrong = [
        f"{sample.file}: {best.name}"
        for (sample, _), (best,) in zip(known, answers, strict=True)
        if best.label not in sample.classes
    ]
    assert wrong == []


def test_the_wheel_takes_it_along() -> None:
    root = Path(__file__).resolve().parents[1]
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["scikit-build"]["wheel"]["packages"][f"nybble/data/models/{SHIPPED}"] == f"models/{SHIPPED}"


def test_answers_of_its_other_forms_are_recorded() -> None:
    pytest.importorskip("skimage")
    recorded = read_answers(Path(__file__).resolve().parents[1] / "models" / SHIPPED / "model")
    assert recorded is not None
    assert recorded.network == SHIPPED
    assert list(recorded.forms) == ["float", "int8"]
    assert list(recorded.photos) == [sample.file for sample in PHOTOS]
    for sample, path in samples():
        assert recorded.photos[sample.file].sha256 == fingerprint(path)
        for form, answers in recorded.photos[sample.file].answers.items():
            assert [answer.score for answer in answers] == sorted((a.score for a in answers), reverse=True)
            assert not sample.classes or answers[0].index in sample.classes, (sample.file, form)
