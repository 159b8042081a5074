"""The backend for GPUs around its kernels: refusals, memory, photos of trained networks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import nybble
from emulated_gpu import NEEDS_EMULATOR
from nybble.backends import Options, backend_named
from nybble.backends.cuda.emulated import EmulatedDevice
from nybble.backends.cuda.layout import pack_nibbles, unpack_nibbles
from nybble.backends.cuda.packing import column_order
from nybble.engine import Engine, EngineError
from nybble.graph import Concat, DType, Graph, Input
from nybble.reference import interpret

sys.path.append(str(Path(__file__).parent.parent / "backends"))


def small() -> Graph:
    join = Concat(name="join", inputs=("x", "x"), input_type=DType.U4)
    return Graph([Input(name="x", dtype=DType.U4, shape=(3, 4, 5))], [join], ["join"])


def test_without_a_gpu_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EngineError, match=r"^device='cuda': (cuda-core is not|no NVIDIA GPU can be used)") as caught:
        Engine(small(), device="cuda")
    assert "\n" not in str(caught.value)


def test_without_the_emulator_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nybble._gpu_emulator", None)
    monkeypatch.delattr(nybble, "_gpu_emulator", raising=False)
    with pytest.raises(EngineError, match="this build has no emulated GPU, and neither have published wheels"):
        Engine(small(), device="cuda-emulated")


@NEEDS_EMULATOR
def test_what_the_options_may_be() -> None:
    assert Engine(small(), device="cuda-emulated").isa == "sm_80 (emulated)"
    for options, why in (
        ({"threads": 2}, "threads=2: a GPU is driven by one thread"),
        ({"isa": "avx2"}, "isa='avx2': the emulated GPU is one of sm_75, sm_80, sm_90"),
    ):
        with pytest.raises(EngineError, match=f"^{why}$"):
            Engine(small(), device="cuda-emulated", **options)
    backend = backend_named("cuda-emulated")
    assert backend is not None
    with pytest.raises(EngineError, match="choices must map results to names of kernels, got int"):
        backend.compile(small(), Options(choices=3))


@NEEDS_EMULATOR
def test_too_many_parts_of_a_concatenation_are_refused() -> None:
    join = Concat(name="join", inputs=("x",) * 17, input_type=DType.U4)
    graph = Graph([Input(name="x", dtype=DType.U4, shape=(3, 4, 5))], [join], ["join"])
    with pytest.raises(EngineError, match="joins 16 values at most, not 17; run it on the reference"):
        Engine(graph, device="cuda-emulated")


@NEEDS_EMULATOR
def test_batches_of_any_size_and_the_memory_of_each() -> None:
    """More images than one batch, then fewer: the arena grows and is freed."""
    graph = small()
    x = np.random.default_rng(0).integers(0, 16, (11, 3, 4, 5), np.uint8)
    with Engine(graph, device="cuda-emulated") as engine:
        for images in (1, 11, 2, 0):
            np.testing.assert_array_equal(
                engine.run_integer(x[:images]), interpret(graph, x[:images])["join"] if images else x[:0].repeat(2, 1)
            )


@NEEDS_EMULATOR
def test_launches_are_captured_and_replayed() -> None:
    device = EmulatedDevice(80)
    address = device.allocate(4)
    device.write(address, np.arange(4, dtype=np.uint8))
    captured = device.capture([])
    device.replay(captured)
    first, last = device.event(), device.event()
    assert device.nanoseconds(first, last) >= 0
    found = np.empty(4, np.uint8)
    device.read(address, found)
    assert found.tolist() == [0, 1, 2, 3]
    device.close()
    with pytest.raises(RuntimeError, match="outside every allocation"):
        device.read(address, found)


def test_columns_are_a_permutation_that_gives_each_thread_eight_neighbours() -> None:
    order = column_order(64)
    assert sorted(order) == list(range(64))
    for quarter in range(4):
        columns = [8 * j + 2 * quarter + e for j in range(4) for e in range(2)]
        assert order[columns].tolist() == list(range(8 * quarter, 8 * quarter + 8))


@pytest.mark.parametrize("is_signed", [False, True])
def test_nibbles(is_signed: bool) -> None:
    codes = np.arange(16).reshape(1, 16) - (8 if is_signed else 0)
    packed = pack_nibbles(codes)
    assert packed.shape == (1, 8) and packed.dtype == np.uint8
    assert packed[0, 0] == (codes[0, 0] & 15 | (codes[0, 1] & 15) << 4)
    np.testing.assert_array_equal(unpack_nibbles(packed, is_signed), codes)


@NEEDS_EMULATOR
@pytest.mark.slow
def test_the_network_in_the_box_on_noise(network_in_the_box: Path) -> None:
    """Expansions, depthwise layers and projections of a trained network, every layer."""
    graph = nybble.read_graph(network_in_the_box)
    entry = graph.inputs[0]
    x = np.random.default_rng(0).integers(entry.dtype.minimum, entry.dtype.maximum + 1, (1, *entry.shape))
    x = x.astype(entry.dtype.storage)
    expected = interpret(graph, x, keep=None)
    for name, value in Engine(graph, device="cuda-emulated").tap(x).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
