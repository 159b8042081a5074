"""Profiles: what adds up, and traces that load."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import nybble
from nybble.backends.cpu.choices import Choices, convolutions, methods
from nybble.backends.cpu.kernel import LIST_GROUPS, Kernel
from nybble.engine import Engine
from nybble.engine.noise import noise_inputs
from nybble.engine.profile import profile, trace_events, zero_pair_share
from nybble.graph import DType, Graph, Input, Linear, Tensor
from nybble.graph.macs import macs
from nybble.synthetic import bottleneck_resnet, clouds

GRAPH = bottleneck_resnet(blocks=(2, 1), width=8, classes=10, image=32, seed=1)
IMAGES = clouds(np.random.RandomState(0), 2, 32)


@pytest.mark.parametrize("isa", nybble.available_isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_layers_add_up(isa: str, threads: int) -> None:
    engine = Engine(GRAPH, threads=threads, isa=isa)
    found = profile(engine, IMAGES, runs=3)
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)
    assert sum(layer.seconds for layer in found.layers) == pytest.approx(found.seconds)
    assert found.macs == sum(layer.macs for layer in found.layers) == sum(macs(GRAPH, node) for node in GRAPH)
    assert (found.images, found.runs, found.threads, found.isa) == (2, 3, threads, isa)
    assert [layer.name for layer in found.layers if layer.kind != "lists"] == [
        step.output for step in engine.plan.steps
    ]
    for layer in found.layers:
        assert (layer.kernel is None) == (layer.kind != "conv") == (layer.macs == 0)
        assert (layer.bytes > 0) == (layer.kernel is not None)
        assert layer.seconds > 0
        if layer.gmacs is not None:
            assert layer.gmacs * layer.seconds * 1e9 == pytest.approx(layer.macs)


def test_bytes_are_those_of_input_weights_and_output() -> None:
    found = {layer.head: layer.bytes for layer in profile(Engine(GRAPH, threads=1), IMAGES, runs=1).layers}
    for step in convolutions(GRAPH).values():
        head = step.head
        sizes = [GRAPH.values[head.inputs[0]].shape, head.weight.shape, GRAPH.values[head.name].shape]
        assert found[head.name] == sum(int(np.prod(size)) for size in sizes)


def test_times_are_medians_of_single_runs() -> None:
    found = profile(Engine(GRAPH, threads=1), IMAGES, runs=3)
    times = np.array(found.step_nanoseconds)
    assert times.shape == (6, len(found.layers))
    assert (times > 0).all()
    assert [layer.seconds for layer in found.layers] == pytest.approx(np.median(times, axis=0) / 1e9)


@pytest.mark.parametrize("isa", nybble.available_isas())
@pytest.mark.parametrize("method", LIST_GROUPS)
def test_lists_are_steps_of_their_own(isa: str, method: str) -> None:
    kernels = {
        name: Kernel(method, block_outputs=32, list_block=16)
        for name, step in convolutions(GRAPH).items()
        if method in methods(step, isa)
    }
    if not kernels:
        pytest.skip(f"{isa} has no {method} kernel")
    found = profile(Engine(GRAPH, threads=1, isa=isa, choices=Choices(kernels)), IMAGES, runs=1)
    lists = [layer for layer in found.layers if layer.kind == "lists"]
    assert lists
    readers = {layer.name: layer for layer in found.layers}
    for layer in lists:
        assert layer.name.startswith(f"{layer.head}#")
        assert layer.head in readers
        assert layer.zero_share is not None


def test_zeros_are_those_of_what_a_layer_reads() -> None:
    engine = Engine(GRAPH, threads=1)
    found = {layer.name: layer for layer in profile(engine, IMAGES, runs=1).layers}
    values = engine.tap(IMAGES)
    for step in engine.plan.steps:
        layer = found[step.output]
        if step.source == GRAPH.inputs[0].name:
            assert layer.zero_share == pytest.approx((IMAGES == 0).mean())
            assert layer.zero_pair_share is None
        elif values[step.source].dtype.itemsize == 1:
            value = values[step.source]
            assert layer.zero_share == pytest.approx((value == 0).mean())
            pairs = zero_pair_share(value, engine.plan.orders.get(step.source))
            assert layer.zero_pair_share == pytest.approx(pairs)
        else:
            assert layer.zero_share is None


def test_zero_pairs() -> None:
    value = np.zeros((1, 5, 1, 2), np.uint8)
    value[0, 0] = value[0, 2, 0, 0] = 1
    # Pairs (0, 1), (2, 3) and (4, nothing) of two pixels: three of six are zero.
    assert zero_pair_share(value, None) == pytest.approx(3 / 6)
    assert zero_pair_share(value, np.array([0, 2, 1, 3, 4])) == pytest.approx(4 / 6)
    assert zero_pair_share(value, np.array([1, 3, 4, 0, 2])) == pytest.approx(1 - 3 / 6)


def test_a_trace_has_an_event_a_step_and_run() -> None:
    found = profile(Engine(GRAPH, threads=1), IMAGES, runs=2)
    trace = json.loads(json.dumps(trace_events(found), allow_nan=False))
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(events) == 4 * len(found.layers)
    for before, after in itertools.pairwise(events):
        assert after["ts"] == pytest.approx(before["ts"] + before["dur"])
    assert events[0]["args"]["value"] == found.layers[0].name
    assert events[-1]["args"]["run"] == 3
    total = sum(event["dur"] for event in events)
    assert total == pytest.approx(np.sum(found.step_nanoseconds) / 1e3)


def test_a_network_of_vectors() -> None:
    weight = Tensor.from_array(DType.S4, np.full((3, 6), 2))
    node = Linear(name="fc", inputs=("x",), input_type=DType.U4, weight=weight)
    graph = Graph([Input(name="x", dtype=DType.U4, shape=(6,))], [node], ["fc"])
    found = profile(Engine(graph, threads=1), noise_inputs(graph, 3), runs=2)
    assert (found.macs, len(found.layers)) == (18, 1)


def test_wrong_arguments() -> None:
    engine = Engine(GRAPH, threads=1)
    with pytest.raises(ValueError, match="runs"):
        profile(engine, IMAGES, runs=0)
    with pytest.raises(ValueError, match="at least one image"):
        profile(engine, IMAGES[:0])
    with pytest.raises(ValueError, match="one image"):
        engine.step_times(IMAGES)
    # A failed call leaves no timer on.
    assert len(engine.run_integer(IMAGES)) == 2


@pytest.mark.parametrize("dtype", [DType.U4, DType.U8, DType.S8])
def test_noise_is_the_same_each_time_and_fills_the_type(dtype: DType) -> None:
    graph = Graph([Input(name="x", dtype=dtype, shape=(3, 33, 17))], [], ["x"])
    noise = noise_inputs(graph, 4)
    assert np.array_equal(noise, noise_inputs(graph, 4))
    assert (noise.shape, noise.dtype) == ((4, 3, 33, 17), dtype.storage)
    assert (noise.min(), noise.max()) == (dtype.minimum, dtype.maximum)
    assert not np.array_equal(noise[0], noise[1])
