"""Networks that answer together: the mean, the cascade, the file that describes them, and what is found on photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

import nybble
from nybble.engine import Cascade, Engine, Ensemble, EnsembleError
from nybble.engine.ensemble import Measure, Member, read_settings
from nybble.engine.ensemble.fit import cross_fit, fit_temperature, fit_threshold, fit_thresholds, run_cascade
from nybble.engine.ensemble.probabilities import calibrated, entropies, is_deferred, margins
from nybble.engine.ensemble.settings import MemberSettings, Settings, write_settings
from nybble.engine.scores import softmax
from nybble.graph import Graph, write_graph
from nybble.graph.types import Array
from nybble.synthetic import bottleneck_resnet

#: The logits of random networks are tens of thousands.
HEAT = 10_000.0


@pytest.fixture(scope="module")
def graphs() -> list[Graph]:
    made = [bottleneck_resnet(blocks=(1,), width=4, classes=6, image=32, seed=seed) for seed in (3, 4)]
    # Another crop than the others.
    made.append(bottleneck_resnet(blocks=(1,), width=4, classes=6, image=40, seed=5))
    return made


@pytest.fixture(scope="module")
def engines(graphs: list[Graph]) -> Iterator[list[Engine]]:
    made = [Engine(graph, threads=1) for graph in graphs]
    yield made
    for engine in made:
        engine.close()


@pytest.fixture(scope="module")
def photos() -> Array:
    return np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    random = np.random.default_rng(2)
    return [Image.fromarray(random.integers(0, 256, (50 + i, 60, 3), dtype=np.uint8)) for i in range(3)]


@pytest.fixture
def folder(graphs: list[Graph], tmp_path: Path) -> Path:
    for number, graph in enumerate(graphs):
        write_graph(graph, tmp_path / f"net{number}")
    return tmp_path


def described(engine: Engine, photos: Array, temperature: float) -> Array:
    """The definition: softmax of logits over the temperature."""
    return softmax(engine(photos).reshape(len(photos), -1).astype(np.float64) / (temperature * HEAT))


def test_a_mean_is_that_of_calibrated_probabilities(engines: list[Engine], photos: Array) -> None:
    ensemble = Ensemble([Member(engines[0], 1.5 * HEAT, 1.0), Member(engines[1], 0.7 * HEAT, 3.0)])
    wanted = (described(engines[0], photos, 1.5) + 3 * described(engines[1], photos, 0.7)) / 4
    answers = ensemble.answers(photos)
    np.testing.assert_allclose(answers.probabilities, wanted, rtol=1e-12)
    assert answers.asked.tolist() == [2] * 16
    assert ensemble(photos[:0]).shape == (0, 6)
    np.testing.assert_allclose(softmax(ensemble(photos)), wanted, rtol=1e-5)


@given(threshold=st.floats(0, 1), batch=st.integers(1, 16))
def test_a_cascade_asks_where_the_margin_is_small(
    engines: list[Engine], photos: Array, threshold: float, batch: int
) -> None:
    """The answer of a photo does not depend on those beside it."""
    cascade = Cascade(
        [Member(engines[0], 1.2 * HEAT, threshold=("margin", threshold)), Member(engines[1], 0.9 * HEAT, 2.0)]
    )
    first, second = described(engines[0], photos, 1.2), described(engines[1], photos, 0.9)
    deferred = margins(first) < threshold
    wanted = np.where(deferred[:, None], (first + 2 * second) / 3, first)
    parts = [cascade.answers(photos[at : at + batch]) for at in range(0, 16, batch)]
    found = np.concatenate([part.probabilities for part in parts])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert np.concatenate([part.asked for part in parts]).tolist() == (1 + deferred).tolist()
    assert (found == cascade.answers(photos).probabilities).all()


def test_three_members_one_after_the_other(engines: list[Engine], photos: Array) -> None:
    never, always = ("entropy", 10.0), ("entropy", 0.0)
    for thresholds, asked in (((never, always), 1), ((always, never), 2), ((always, always), 3)):
        members = [
            Member(engine, HEAT, threshold=how) for engine, how in zip([engines[0]] * 2, thresholds, strict=True)
        ]  # type: ignore[arg-type]
        assert set(Cascade([*members, Member(engines[1])]).answers(photos).asked) == {asked}


def test_members_prepare_photos_in_their_own_way(engines: list[Engine], pictures: list[Image.Image]) -> None:
    ensemble = Ensemble([Member(engines[0], HEAT), Member(engines[2], HEAT)])
    assert ensemble.photo_shape == (3 * (32 * 32 + 40 * 40),)
    prepared = np.stack([ensemble.prepare(picture) for picture in pictures])
    own = [np.stack([engine.prepare(picture) for picture in pictures]) for engine in (engines[0], engines[2])]
    wanted = (described(engines[0], own[0], 1) + described(engines[2], own[1], 1)) / 2
    np.testing.assert_allclose(ensemble.answers(prepared).probabilities, wanted, rtol=1e-12)
    best = ensemble.classify(pictures, top=1)
    assert [answer[0].label for answer in best] == wanted.argmax(axis=1).tolist()
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 7872\) photos, got uint8 \(3, 32, 32, 3\)"):
        ensemble(own[0])


def test_crops_of_one_size_are_shown_to_all_members(engines: list[Engine], photos: Array) -> None:
    """Although the members would resize photos in different ways."""
    graph = engines[1].graph
    assert graph.preprocessing is not None
    nearest = dataclasses.replace(graph.preprocessing, interpolation="nearest")
    graph = Graph(
        graph.inputs, graph.nodes, graph.outputs, preprocessing=nearest, class_names=engines[0].graph.class_names
    )
    with Engine(graph, threads=1) as other:
        ensemble = Ensemble([Member(engines[0], HEAT), Member(other, HEAT)])
        assert (ensemble.photo_shape, ensemble.crop_shape) == ((2 * 32 * 32 * 3,), (32, 32, 3))
        twice = np.concatenate([photos.reshape(16, -1)] * 2, axis=1)
        assert (ensemble(photos) == ensemble(twice)).all()


def test_what_an_ensemble_has_not_it_refuses_in_one_line(engines: list[Engine], photos: Array) -> None:
    ensemble = Ensemble([Member(engines[0]), Member(engines[1])])
    for ask in (lambda: ensemble.plan, lambda: ensemble.run_integer(photos), lambda: ensemble.tap(photos)):
        with pytest.raises(EnsembleError, match="name one of its members"):
            ask()
    with pytest.raises(EnsembleError, match="at least two members"):
        Ensemble([Member(engines[0])])
    with pytest.raises(EnsembleError, match="every member of a cascade but the last needs a threshold"):
        Cascade([Member(engines[0]), Member(engines[1])])
    other = Engine(bottleneck_resnet(blocks=(1,), width=4, classes=5, image=32, seed=3), threads=1)
    with other, pytest.raises(EnsembleError, match="other: its classes are not those of first"):
        Ensemble([Member(engines[0], name="first"), Member(other, name="other")])
    bare = Graph(engines[0].graph.inputs, engines[0].graph.nodes, engines[0].graph.outputs)
    with Engine(bare, threads=1) as engine, pytest.raises(EnsembleError, match="takes no photos"):
        Ensemble([Member(engines[0]), Member(engine)])


DESCRIPTION = """\
format = "nybble-ensemble/1"
kind = "cascade"
[[member]]
model = "net0"
temperature = 12500.0
margin_below = 0.5
[[member]]
model = "net1"
weight = 2
"""


def test_a_file_describes_an_ensemble(folder: Path, engines: list[Engine], photos: Array) -> None:
    file = folder / "both.toml"
    file.write_text(DESCRIPTION)
    with nybble.load(file, threads=1) as found:
        assert isinstance(found, nybble.Cascade)
        members = [Member(engines[0], 12500.0, threshold=("margin", 0.5)), Member(engines[1], weight=2.0)]
        assert (found(photos) == Cascade(members)(photos)).all()
        assert [member.name for member in found.members] == ["net0", "net1"]
    with pytest.raises(ValueError, match="the engine is closed"):
        found(photos)
    with nybble.load(file, device="reference") as reference:
        assert (reference(photos[:2]) == Cascade(members)(photos[:2])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("format = ", "# format = "), "field format: expected format = .nybble-ensemble/1."),
        (("cascade", "sum"), "field kind: input should be 'mean' or 'cascade'"),
        (("temperature = 12500.0", "temperature = 0"), "field member.0.temperature: input should be greater than 0"),
        (("temperature = 12500.0", "temperature = nan"), "field member.0.temperature: input should be a finite number"),
        (("temperature", "temprature"), "field member.0.temprature: extra inputs are not permitted"),
        (("weight = 2", "margin_below = 0.1"), "field member.1.margin_below: no member follows the last one"),
        (("margin_below = 0.5", ""), "field member.0: give either margin_below or entropy_above"),
        (('kind = "cascade"', 'kind = "mean"'), "field member.0.margin_below: a mean runs all members"),
        (("net1", "net9"), "field member.1.model: net9: there is no such folder"),
        (("[[member]]", "[[member"), "is not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_with_file_field_and_remedy(
    folder: Path, change: tuple[str, str], message: str
) -> None:
    file = folder / "wrong.toml"
    file.write_text(DESCRIPTION.replace(*change))
    with pytest.raises(EnsembleError, match=message) as caught:
        nybble.load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


#: All but surrogates: no file in UTF-8 has those.
TEXT = st.characters(codec="utf-8")
NUMBERS = st.floats(1e-3, 1e3).map(lambda number: round(number, 6))


@given(
    st.lists(st.tuples(st.text(TEXT, min_size=1), NUMBERS, NUMBERS), min_size=2, max_size=4),
    st.one_of(st.tuples(st.just("margin_below"), st.floats(0, 1)), st.tuples(st.just("entropy_above"), NUMBERS)),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, float, float]], threshold: tuple[str, float]
) -> None:
    members = [MemberSettings(model=name, temperature=heat, weight=weight) for name, heat, weight in drawn]
    members[:-1] = [member.model_copy(update={threshold[0]: threshold[1]}) for member in members[:-1]]
    settings = Settings(format="nybble-ensemble/1", kind="cascade", member=members)
    file = tmp_path_factory.mktemp("written") / "it.toml"
    write_settings(file, settings, ["a comment"])
    assert read_settings(file) == settings


@given(st.integers(0, 1 << 32), st.floats(0.3, 4), st.integers(2, 12))
def test_the_temperature_is_the_likeliest(seed: int, temperature: float, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (400, classes))
    chances = calibrated(logits, temperature)
    labels = np.array([random.choice(classes, p=row) for row in chances])
    found = fit_temperature(logits, labels)

    def likelihood(value: float) -> float:
        return float(np.log(calibrated(logits, value)[np.arange(400), labels]).sum())

    assert 0.5 * temperature < found < 2 * temperature
    assert likelihood(found) >= max(likelihood(found * 1.01), likelihood(found / 1.01))


@given(st.integers(0, 1 << 32), st.floats(0, 1), st.sampled_from(["margin", "entropy"]))
def test_the_threshold_defers_the_share_wanted(seed: int, share: float, measure: str) -> None:
    probabilities = softmax(np.random.default_rng(seed).normal(0, 3, (57, 6)))
    threshold = fit_threshold(probabilities, measure, share)  # type: ignore[arg-type]
    assert is_deferred(probabilities, measure, threshold).sum() == round(share * 57)  # type: ignore[arg-type]


@pytest.mark.parametrize("measure", ["margin", "entropy"])
def test_thresholds_of_several_members_defer_the_shares_wanted(measure: Measure) -> None:
    """Shares are those of all photos; the fit asks as the ensemble does."""
    random = np.random.default_rng(5)
    said = [calibrated(random.normal(0, 3, (200, 6)), 1.0) for _ in range(4)]
    thresholds = fit_thresholds(said, measure, [0.4, 0.1, 0.0])
    probabilities, asked = run_cascade(said, measure, thresholds)
    assert [int((asked > place).sum()) for place in range(4)] == [200, 80, 20, 0]
    for row in range(200):
        np.testing.assert_array_equal(probabilities[row], np.mean([some[row] for some in said[: asked[row]]], axis=0))
    assert run_cascade(said, measure, fit_thresholds(said, measure, [1.0, 1.0, 1.0]))[1].tolist() == [4] * 200
    assert run_cascade(said, measure, fit_thresholds(said, measure, [0.0, 0.0, 0.0]))[1].tolist() == [1] * 200


def test_entropy_and_margin() -> None:
    even = np.array([[0.25] * 4, [1.0, 0, 0, 0]])
    assert entropies(even) == pytest.approx([np.log(4), 0])
    assert margins(even).tolist() == [0, 1]


def test_a_photo_is_answered_with_what_was_found_on_others() -> None:
    """Labels of a fold that are all changed leave its answers as they were."""
    random = np.random.default_rng(3)
    logits = [random.normal(0, 3, (40, 5)) for _ in range(2)]
    labels = random.integers(0, 5, 40)
    before = cross_fit(logits, labels, "margin", [[0.3]], folds=4)
    fold = np.random.default_rng(0).permutation(40) % 4 == 2
    other = np.where(fold, (labels + 1) % 5, labels)
    after = cross_fit(logits, other, "margin", [[0.3]], folds=4)
    assert (before.points[0].asked[fold] == after.points[0].asked[fold]).all()
    assert 0 < (before.points[0].asked > 1).sum() < 40
    # Right answers of members do not depend on temperatures at all.
    for right, some in zip(before.members, logits, strict=True):
        assert (right == (some.argmax(axis=1) == labels)).all()
    with pytest.raises(ValueError, match=r"folds must be in 2\.\.40"):
        cross_fit(logits, labels, "margin", [], folds=1)
