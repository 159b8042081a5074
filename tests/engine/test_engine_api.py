"""What the engine takes, what it refuses and how it says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from agreement import ISAS, assert_same
from networks import Network
from PIL import Image

import nybble
from nybble.engine import Engine, EngineError
from nybble.graph import DType, Graph, Input, Linear, Tensor, write_graph
from nybble.graph.types import Array
from nybble.images import ImageError
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet


@pytest.fixture(scope="module")
def graph() -> Graph:
    return bottleneck_resnet(blocks=(1,), width=8, classes=7, image=32, seed=3)


@pytest.fixture
def engine(graph: Graph) -> Engine:
    return Engine(graph, threads=2)


@pytest.fixture(scope="module")
def photos() -> Array:
    return np.random.default_rng(5).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)


def as_float(graph: Graph, photos: Array) -> Array:
    assert graph.preprocessing is not None
    return np.ascontiguousarray(graph.preprocessing.normalise(photos).transpose(0, 3, 1, 2))


def as_integer(graph: Graph, normalised: Array) -> Array:
    assert graph.preprocessing is not None
    with np.errstate(over="ignore"):
        return graph.preprocessing.quantize(normalised)


@pytest.mark.parametrize("isa", ISAS)
def test_photos_floats_and_integers_give_one_answer(graph: Graph, photos: Array, isa: str) -> None:
    floats = as_float(graph, photos)
    integers = as_integer(graph, floats)
    expected = interpret(graph, integers)["scale"]
    with Engine(graph, threads=2, isa=isa) as engine:
        for count in (0, 1, 8, 10):
            assert_same(engine(photos[:count]), expected[:count])
            assert_same(engine(floats[:count]), expected[:count])
            assert_same(engine.run_integer(integers[:count]), expected[:count])


def test_floats_round_and_clip_as_the_preprocessing_says(graph: Graph, engine: Engine) -> None:
    """Halves, values past the clip, the largest and the smallest floats, and infinity, which clips like them."""
    assert graph.preprocessing is not None
    step = np.float32(graph.preprocessing.scale_denominator) / np.float32(graph.preprocessing.scale_numerator)
    random = np.random.default_rng(1)
    x = (random.integers(-300, 300, (4, 3, 32, 32)).astype(np.float32) / 2) * step
    x = np.nextafter(x, random.choice(np.float32([-9, 0, 9]), x.shape), dtype=np.float32)
    extremes = np.float32([np.inf, -np.inf, 3e38, -3e38, 1e-40, -1e-40, -0.0, 2.64, -2.64])
    x.reshape(-1)[random.permutation(x.size)[: len(extremes) * 50]] = np.repeat(extremes, 50)
    assert_same(engine(x), interpret(graph, as_integer(graph, x))["scale"])


def test_arrays_of_any_layout(graph: Graph, engine: Engine, photos: Array) -> None:
    expected = engine(photos)
    wide = np.zeros((10, 32, 64, 6), np.uint8)
    wide[:, :, ::2, ::2] = photos
    frozen = photos.copy()
    frozen.setflags(write=False)
    for same in (wide[:, :, ::2, ::2], np.asfortranarray(photos), frozen, photos[::-1].copy()[::-1]):
        before = same.copy()
        assert_same(engine(same), expected)
        assert_same(same, before)
    floats = as_float(graph, photos)
    strided = np.asfortranarray(floats)
    strided.setflags(write=False)
    assert_same(engine(strided), expected)
    integers = np.asfortranarray(as_integer(graph, floats))
    integers.setflags(write=False)
    assert_same(engine.run_integer(integers), expected)
    assert_same(engine.run_integer(integers[::2]), expected[::2])
    assert_same(engine.tap(integers[::2])["scale"], expected[::2])


def test_results_are_the_callers(engine: Engine, photos: Array) -> None:
    first = engine(photos[:1])
    kept = first.copy()
    engine(photos[1:2])
    assert_same(first, kept)
    first[:] = 0


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [[0]],
        b"photo",
        np.zeros((1, 32, 32, 3), np.int8),
        np.zeros((1, 32, 32, 3), np.int64),
        np.zeros((1, 3, 32, 32), np.float64),
        np.zeros((1, 3, 32, 32), ">f4"),
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((32, 32, 3), np.uint8),
        np.zeros((1, 31, 32, 3), np.uint8),
        np.zeros((1, 1, 32, 32, 3), np.uint8),
        np.zeros((), np.uint8),
        np.zeros((0,), np.float32),
    ],
)
def test_wrong_arrays_are_refused(engine: Engine, wrong: object) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 32, 32, 3\) .* or float32 \(N, 3, 32, 32\).*got "):
        engine(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        np.zeros((1, 3, 32, 32), np.uint8),
        np.zeros((1, 3, 32, 32), np.float32),
        np.zeros((3, 32, 32), np.int8),
        np.zeros((1, 32, 32, 3), np.int8),
        np.zeros((), np.int8),
        np.zeros((1, 3, 32, 33), np.int8),
    ],
)
def test_wrong_integers_are_refused(engine: Engine, wrong: object) -> None:
    for method in (engine.run_integer, engine.tap):
        with pytest.raises(ValueError, match=r"expected int8 \(N, 3, 32, 32\) with values -128\.\.127, got "):
            method(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "value"), [("u4", 16), ("u7", 128), ("s4", 8), ("s4", -9)])
def test_integers_that_do_not_fit_are_refused(dtype: str, value: int) -> None:
    network = Network(DType(dtype), (2, 1, 1))
    network.requantize("same", "image", DType.S8, 1, 0)
    with Engine(network.graph(), threads=1) as engine:
        x = np.zeros((3, 2, 1, 1), DType(dtype).storage)
        engine.run_integer(x)
        x[2, 1] = value
        for method in (engine.run_integer, engine.tap):
            with pytest.raises(ValueError, match=rf"with values .*, got values .*{value}"):
                method(x)


def test_nan_is_refused_wherever_it_lies(graph: Graph, engine: Engine, photos: Array) -> None:
    floats = as_float(graph, photos)
    expected = engine(floats)
    for place in (0, floats.size // 2, floats.size - 1):
        broken = floats.copy()
        broken.reshape(-1)[place] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            engine(broken)
    assert_same(engine(floats), expected)


def test_a_model_without_preprocessing_takes_integers_only(graph: Graph) -> None:
    bare = Graph(graph.inputs, graph.nodes, graph.outputs)
    with Engine(bare, threads=1) as engine:
        for call in (
            lambda: engine(np.zeros((1, 32, 32, 3), np.uint8)),
            lambda: engine.classify([np.zeros((40, 40, 3), np.uint8)]),
        ):
            with pytest.raises(EngineError, match="run_integer"):
                call()
        engine.run_integer(np.zeros((1, 3, 32, 32), np.int8))


def test_a_closed_engine_says_so(graph: Graph, photos: Array) -> None:
    with Engine(graph, threads=2) as engine:
        engine(photos)
    engine.close()
    for call in (lambda: engine(photos), lambda: engine.run_integer(np.zeros((1, 3, 32, 32), np.int8))):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert "Engine" in repr(engine)


@pytest.mark.parametrize("threads", [0, -1, 1025, 2.0, "2", True])
def test_wrong_threads_are_refused(graph: Graph, threads: object) -> None:
    with pytest.raises(EngineError, match=r"threads must be an integer in 1\.\.1024"):
        Engine(graph, threads=threads)  # type: ignore[arg-type]


def test_unknown_instruction_sets_are_refused(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match=r"isa: unknown instruction set 'sse9'; available: scalar"):
        Engine(graph, isa="sse9")
    monkeypatch.setenv("NYBBLE_ISA", "AVX2")
    with pytest.raises(EngineError, match=r"environment variable NYBBLE_ISA: unknown instruction set 'AVX2'"):
        Engine(graph)
    # An argument goes before the environment, and an empty variable is none.
    assert Engine(graph, isa="scalar").isa == "scalar"
    monkeypatch.setenv("NYBBLE_ISA", "scalar")
    assert Engine(graph).isa == "scalar"
    monkeypatch.setenv("NYBBLE_ISA", "")
    assert Engine(graph).isa == ISAS[-1]


def test_instruction_sets_that_the_machine_lacks_are_refused(graph: Graph) -> None:
    """Known names, but none of them here; on a machine that has all of them there is nothing to refuse."""
    for isa in {"avx2", "avx512", "avx512vnni"} - set(ISAS):
        with pytest.raises(EngineError, match=rf"isa: .*'{isa}'.*; available: scalar"):
            Engine(graph, isa=isa)


def test_networks_of_several_inputs_are_refused() -> None:
    weight = Tensor.from_array(DType.S4, np.ones((1, 2), np.int64))
    ends = [Input(name=name, dtype=DType.U4, shape=(2,)) for name in ("a", "b")]
    nodes = [Linear(name=f"{end.name}1", inputs=(end.name,), input_type=DType.U4, weight=weight) for end in ends]
    with pytest.raises(EngineError, match=r"^the engine runs networks of one input; this one has 2$"):
        Engine(Graph(ends, nodes, ["a1"]))


def test_an_input_may_be_an_output() -> None:
    weight = Tensor.from_array(DType.S4, np.ones((1, 2), np.int64))
    linear = Linear(name="sum", inputs=("a",), input_type=DType.U4, weight=weight)
    x = np.array([[3, 4], [5, 6], [15, 15]], np.uint8)
    with Engine(Graph([Input(name="a", dtype=DType.U4, shape=(2,))], [linear], ["sum", "a"])) as engine:
        found = engine.run(x, integers=True)
    np.testing.assert_array_equal(found["a"], x)
    np.testing.assert_array_equal(found["sum"][:, 0], [7, 11, 30])


def test_classify_takes_paths_pictures_and_arrays(graph: Graph, engine: Engine, tmp_path: Path) -> None:
    samples = np.random.default_rng(2).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(samples).save(path)
    with Image.open(path) as picture:
        answers = engine.classify([path, str(path), picture, samples], top=3)
    assert [len(answer) for answer in answers] == [3] * 4
    assert all(answer == answers[0] for answer in answers)
    scores = [prediction.score for prediction in answers[0]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1 + 1e-9
    assert graph.class_names is not None
    assert all(prediction.name == graph.class_names[prediction.label] for prediction in answers[0])


def test_classify_gives_the_classes_of_the_logits(engine: Engine, graph: Graph) -> None:
    """Photos of the network's own size go through untouched, more than one batch of them, and probabilities add up."""
    assert graph.preprocessing is not None
    resize = graph.preprocessing.resize
    photos = list(np.random.default_rng(3).integers(0, 256, (19, resize, resize, 3), dtype=np.uint8))
    answers = engine.classify(photos, top=99)
    edge = (resize - 32) // 2
    logits = engine(np.stack(photos)[:, edge : edge + 32, edge : edge + 32])
    assert [answer[0].label for answer in answers] == list(logits.argmax(axis=1))
    for answer in answers:
        assert sorted(prediction.label for prediction in answer) == list(range(7))
        assert sum(prediction.score for prediction in answer) == pytest.approx(1)


def test_classify_refuses_what_is_wrong(engine: Engine, tmp_path: Path) -> None:
    assert engine.classify([]) == []
    with pytest.raises(ValueError, match="top must be positive"):
        engine.classify([], top=0)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        engine.classify([tmp_path / "broken.jpg"])


def test_the_plan_names_every_node_once_and_every_step(graph: Graph, engine: Engine) -> None:
    lines = str(engine.plan).splitlines()
    assert len(lines) == len(engine.plan.steps) + 1
    assert lines[0].startswith(f"{engine.isa}, ")
    named = [name for line in lines[1:] for name in line.split(":")[0].split(" + ")]
    assert sorted(named) == sorted(node.name for node in graph)


def test_load_reads_a_directory(graph: Graph, photos: Array, tmp_path: Path) -> None:
    write_graph(graph, tmp_path / "model")
    expected = Engine(graph, threads=1)(photos)
    for path in (tmp_path, tmp_path / "model", str(tmp_path)):
        engine = nybble.load(path, threads=1, isa="scalar")
        assert (engine.threads, engine.isa) == (1, "scalar")
        assert_same(engine(photos), expected)
