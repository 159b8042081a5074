"""The models that come with nybble: small, described, the engine's answers the reference's, and right."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nybble
from nybble.demo import read_answers, samples
from nybble.demo.photos import PHOTOS, fingerprint
from nybble.engine.ensemble import read_settings
from nybble.graph.macs import four_bit_share
from nybble.images import integer_input, load_photo
from nybble.models import CASCADE, CLASSIFIERS, DETECTOR, LARGER, NETWORKS, SHIPPED, find
from nybble.reference import interpret

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
MOST_BYTES = {SHIPPED: 6_000_000, LARGER: 14_200_000, DETECTOR: 300_000, CASCADE: 20_000}
#: The forms whose answers are recorded.
FORMS = {SHIPPED: ["float", "int8"], LARGER: ["float"]}
#: What the float network takes for something else.
WRONG = {(LARGER, "rocket.jpg")}
#: What the figures are called in a card until they are measured.
UNFILLED = re.compile(r"⟦[^⟧]*⟧|FIGURES")


def test_it_is_found_without_being_named(network_in_the_box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NYBBLE_MODEL", raising=False)
    assert find().name == SHIPPED
    assert find().path.samefile(network_in_the_box)


@pytest.mark.parametrize("name", [*NETWORKS, CASCADE])
def test_it_is_found_by_its_name_and_small(name: str) -> None:
    folder = MODELS / name
    path = find(name, ensembles=True).path
    assert path.samefile(folder / f"{name}.toml" if name == CASCADE else folder)
    # Of the smallest network the card and the licence are 4.5 kB more.
    counted = folder / "model" if name == DETECTOR else folder
    assert sum(file.stat().st_size for file in counted.rglob("*") if file.is_file()) < MOST_BYTES[name]


@pytest.mark.parametrize("name", [*NETWORKS, CASCADE])
def test_its_card_is_filled_in(name: str) -> None:
    assert UNFILLED.findall((MODELS / name / "README.md").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_engine_and_reference_agree_on_a_photo(name: str) -> None:
    graph = nybble.read_graph(MODELS / name)
    assert graph.preprocessing is not None
    photo = load_photo(samples()[0][1], graph.preprocessing)[None]
    expected = interpret(graph, integer_input(photo, graph.preprocessing))[graph.outputs[0]]
    with nybble.Engine(graph, threads=1) as engine:
        np.testing.assert_array_equal(engine(photo).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("name", [*CLASSIFIERS, CASCADE])
def test_it_is_right_on_the_sample_photos(name: str) -> None:
    """Of the larger network: on those that its float form is right on."""
    known = [(sample, path) for sample, path in samples() if sample.classes and (name, sample.file) not in WRONG]
    with nybble.load(name, threads=1) as engine:
        answers = engine.classify([path for _, path in known], top=1)
    wrong = [
        f"{sample.file}: {best.name}"
        for (sample, _), (best,) in zip(known, answers, strict=True)
        if best.label not in sample.classes
    ]
    assert wrong == []


def test_the_detector_finds_the_cat() -> None:
    path = next(path for sample, path in samples() if sample.file.startswith("chelsea"))
    with nybble.load(DETECTOR, threads=1) as engine:
        best = max(engine.detect(path).to_json()["boxes"], key=lambda box: box["score"])
    assert best["name"] == "cat"


@pytest.mark.parametrize("name", [*NETWORKS, CASCADE])
def test_the_wheel_takes_it_along(name: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["scikit-build"]["wheel"]["packages"][f"nybble/data/models/{name}"] == f"models/{name}"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_answers_of_its_other_forms_are_recorded(name: str) -> None:
    recorded = read_answers(MODELS / name / "model")
    assert recorded is not None
    assert recorded.network == name
    assert list(recorded.forms) == FORMS[name]
    assert list(recorded.photos) == [sample.file for sample in PHOTOS]
    for sample, path in samples():
        assert recorded.photos[sample.file].sha256 == fingerprint(path)
        for form, answers in recorded.photos[sample.file].answers.items():
            assert [answer.score for answer in answers] == sorted((a.score for a in answers), reverse=True)
            is_right = not sample.classes or answers[0].index in sample.classes
            assert is_right == ((name, sample.file) not in WRONG), (sample.file, form)


def test_nearly_all_of_the_larger_one_is_4_bit_and_its_licence_lies_with_it() -> None:
    assert four_bit_share(nybble.read_graph(MODELS / LARGER)) > 0.95
    assert "Apache License" in (MODELS / LARGER / "LICENSE").read_text(encoding="utf-8")
    assert f"models/{LARGER}" in (ROOT / "NOTICE").read_text(encoding="utf-8")


def test_the_cascade_is_of_the_bundled_networks() -> None:
    settings = read_settings(MODELS / CASCADE / f"{CASCADE}.toml")
    assert settings.kind == "cascade"
    assert tuple(member.model for member in settings.member) == CLASSIFIERS
