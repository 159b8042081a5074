"""Every backend behind the engine: one interface, the same results bit for bit, clear refusals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import nybble
from emulated_gpu import NEEDS_EMULATOR
from nybble.backends import Backend, Options, backend_named, backends, register, unregister
from nybble.engine import Engine, EngineError
from nybble.graph import AvgPool2d, Conv2d, DType, Graph, Input, Linear, Pair, Preprocessing, Quantize, Scale, Tensor
from nybble.graph.plugins import PluginError
from nybble.graph.types import Array
from nybble.reference import interpret
from strategies import batches, graphs

sys.path.append(str(Path(__file__).parent.parent / "outside"))
import outside_backend
from packages import run_with_entry_points

NAMES = ("cpu", "cuda-emulated", "reference", "outside")
DEVICES = pytest.mark.parametrize(
    "device", [pytest.param(name, marks=NEEDS_EMULATOR) if name == "cuda-emulated" else name for name in NAMES]
)


@pytest.fixture(autouse=True)
def outside() -> Iterator[None]:
    register(outside_backend.backend)
    yield
    unregister(outside_backend.backend)


def classifier(input_type: DType = DType.S8, channels: int = 3) -> Graph:
    """A small network of photos."""
    random = np.random.default_rng(7)
    weight = Tensor.from_array(DType.S4, random.integers(-8, 8, (6, channels, 3, 3)))
    factor = Tensor.from_array(DType.U16, random.integers(1, 20, 6))
    head = Tensor.from_array(DType.S4, random.integers(-8, 8, (5, 6)))
    scale = Tensor.from_array(DType.F32, random.uniform(1, 9, 5).astype(np.float32))
    whole = Pair(6, 5)
    nodes = [
        Conv2d(name="conv", inputs=("x",), input_type=input_type, weight=weight),
        Quantize(name="codes", inputs=("conv",), input_type=DType.S32, output_type=DType.U4, factor=factor, shift=12),
        AvgPool2d(name="mean", inputs=("codes",), input_type=DType.U4, kernel_size=whole, stride=whole),
        Linear(name="fc", inputs=("mean",), input_type=DType.U4, weight=head),
        Scale(name="logits", inputs=("fc",), out_scale=scale),
    ]
    normal = {"mean": (0.4,) * channels, "std": (0.3,) * channels}
    preprocessing = Preprocessing(resize=9, crop=(8, 7), input_type=input_type, **normal)
    entry = Input(name="x", dtype=input_type, shape=(channels, 8, 7))
    return Graph([entry], nodes, ["logits"], preprocessing=preprocessing)


def codes(graph: Graph, images: int = 5) -> Array:
    entry = graph.inputs[0]
    values = np.random.default_rng(8).integers(entry.dtype.minimum, entry.dtype.maximum + 1, (images, *entry.shape))
    return values.astype(entry.dtype.storage)


@DEVICES
@given(data=st.data())
def test_drawn_networks_give_the_references_values(device: str, data: st.DataObject) -> None:
    drawn = data.draw(graphs(max_nodes=6).filter(lambda graph: len(graph.inputs) == 1 and graph.nodes))
    graph = Graph(drawn.inputs, drawn.nodes, [drawn.nodes[-1].name])
    x = data.draw(batches(graph.inputs[0], max_batch=5))
    expected = interpret(graph, x, keep=None)
    with Engine(graph, device=device, threads=1) as engine:
        found = engine.run_integer(x)
        tapped = engine.tap(x)
    np.testing.assert_array_equal(found, expected[graph.outputs[0]])
    assert found.dtype == expected[graph.outputs[0]].dtype
    assert graph.outputs[0] in tapped
    for name, value in tapped.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@DEVICES
@pytest.mark.parametrize("input_type", [DType.S8, DType.U8, DType.U7, DType.S4, DType.U4])
@pytest.mark.parametrize("channels", [1, 3])
def test_photos_and_normalised_photos(device: str, input_type: DType, channels: int) -> None:
    """Samples, the edges of rounding and infinity become the same codes everywhere."""
    graph = classifier(input_type, channels)
    preprocessing = graph.preprocessing
    assert preprocessing is not None
    random = np.random.default_rng(9)
    photos = random.integers(0, 256, (6, 8, 7, channels), dtype=np.uint8)
    normalised = preprocessing.normalise(photos).transpose(0, 3, 1, 2)
    with Engine(graph, device=device, threads=1) as engine:
        expected = engine.run_integer(np.ascontiguousarray(preprocessing.quantize(normalised)))
        np.testing.assert_array_equal(engine(photos), expected)
        np.testing.assert_array_equal(engine(normalised), expected)
        extreme = random.choice(np.array([np.inf, -np.inf, 3e38, -3e38, 0, 0.01], np.float32), normalised.shape)
        with np.errstate(over="ignore"):
            integers = preprocessing.quantize(extreme)
        np.testing.assert_array_equal(engine(extreme), engine.run_integer(integers))


@DEVICES
def test_what_is_refused(device: str) -> None:
    graph = classifier()
    engine = Engine(graph, device=device, threads=1)
    x = codes(graph)
    normalised = np.zeros((1, 3, 8, 7), np.float32)
    normalised[0, 1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="without NaN"):
        engine(normalised)
    with pytest.raises(ValueError, match="expected int8"):
        engine.run_integer(x.astype(np.int16))
    with pytest.raises(ValueError, match="one image"):
        engine.step_times(x)
    engine.close()
    for attempt in (engine.run_integer, engine.tap, engine.step_times):
        with pytest.raises(ValueError, match="the engine is closed"):
            attempt(x[:1])


@DEVICES
def test_time_and_memory(device: str) -> None:
    graph = classifier()
    engine = Engine(graph, device=device, threads=1)
    times = engine.step_times(codes(graph, 1))
    assert list(engine.tap(codes(graph, 1)))[-1] == "logits"
    assert set(engine.tap(codes(graph, 1))) <= set(times)
    assert all(time >= 0 for time in times.values())
    # The first layer reads its input and writes its output.
    assert engine.value_bytes >= 3 * 8 * 7
    assert engine.threads == 1
    assert device == "cpu" or engine.isa in repr(engine)


@DEVICES
def test_networks_of_several_outputs_run_or_are_refused(device: str) -> None:
    graph = classifier()
    several = Graph(graph.inputs, graph.nodes, ["fc", "logits"], preprocessing=graph.preprocessing)
    if device == "outside":
        with pytest.raises(EngineError, match=rf"^device='{device}' runs networks of one output; this one has 2$"):
            Engine(several, device=device)
        return
    x = codes(graph, 3)
    with Engine(several, device=device) as engine:
        found = engine.run(x, integers=True)
    for name, values in interpret(several, x).items():
        np.testing.assert_array_equal(found[name], values)


def test_the_reference_has_no_options() -> None:
    for options, why in (
        ({"threads": 4}, "threads=4: the reference runs on one thread"),
        ({"isa": "avx2"}, "isa='avx2': the reference has no instruction sets"),
    ):
        with pytest.raises(EngineError, match=f"^{why}$"):
            Engine(classifier(), device="reference", **options)
    backend = backend_named("reference")
    assert backend is not None
    with pytest.raises(EngineError, match="no kernels to choose"):
        backend.compile(classifier(), Options(choices={}))


def test_only_the_native_engine_has_a_plan() -> None:
    assert len(Engine(classifier(), threads=1).plan.steps) == 4
    with pytest.raises(EngineError, match="runs on reference, which has no plan"):
        _ = Engine(classifier(), device="reference").plan


def test_an_unknown_device_is_refused() -> None:
    assert backends() == ["cpu", "cuda", "cuda-emulated", "outside", "reference"]
    known = "cpu, cuda, cuda-emulated, outside, reference"
    with pytest.raises(EngineError, match=rf"^device='gpu': there is no such backend \(known: {known}\)$"):
        Engine(classifier(), device="gpu")


@pytest.mark.parametrize("taken", NAMES)
def test_a_name_is_registered_once(taken: str) -> None:
    class Other(outside_backend.OutsideBackend):
        name = taken

    other: Backend = Other()
    with pytest.raises(PluginError, match=f"^the backend name '{taken}' is taken; rename that of test_backends$"):
        register(other)


def test_the_network_in_the_box_on_a_backend_from_outside(network_in_the_box: Path, tmp_path: Path) -> None:
    """By its entry point and by the one name that a user needs: nybble.load."""
    code = (
        "import numpy as np, nybble\n"
        f"path = {str(network_in_the_box)!r}\n"
        "shape = (1, *nybble.read_graph(path).preprocessing.crop, 3)\n"
        "photo = np.random.default_rng(0).integers(0, 256, shape, np.uint8)\n"
        "outside, cpu = (nybble.load(path, device=device) for device in ('outside', 'cpu'))\n"
        "print(outside.isa, np.array_equal(outside(photo), cpu(photo)))"
    )
    done = run_with_entry_points(tmp_path, {"nybble.backends": "outside_backend:backend"}, code)
    assert (done.stdout, done.stderr) == ("outside True\n", "")


def test_the_network_in_the_box_on_the_reference(network_in_the_box: Path) -> None:
    engine = nybble.load(network_in_the_box, device="reference")
    assert engine.graph.preprocessing is not None
    photo = np.random.default_rng(0).integers(0, 256, (1, *engine.graph.preprocessing.crop, 3), np.uint8)
    np.testing.assert_array_equal(engine(photo), nybble.load(network_in_the_box, threads=1)(photo))
