"""The table of kernels: what a row claims is exact at its bounds and refused one step beyond, whoever asks.

Everything here walks over the rows, so that a new kernel or instruction set is tested by being in the table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from agreement import ISAS, assert_same
from kernels import forced
from kernels import kernel as kernel_of
from networks import Network, copied

from nybble import _native
from nybble.backends.cpu.choices import convolutions, methods
from nybble.backends.cpu.kernel import Kernel, choose_kernel
from nybble.backends.cpu.rows import layer, rows
from nybble.engine import Engine, available_isas
from nybble.graph import Conv2d, DType, Graph, Padding, Tensor
from nybble.graph.types import ACTIVATIONS, Array
from nybble.lower import Step
from row_record import compared

ROWS = [(isa, name) for isa in ISAS for name in rows(isa)]
EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=["-".join(names) for names in ROWS], indirect=True)
SIZE = (4, 5)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> _native.KernelRow:
    """The row of an instruction set and a name. Native objects as parameters would outlive the native module."""
    isa, name = request.param
    return rows(isa)[name]


def some_groups(row: _native.KernelRow, channels: int) -> int:
    """Groups of a layer of so many inputs and outputs that a row is for."""
    return channels if row.is_depthwise else 2 if row.is_for_groups else 1


def make_layer(row: _native.KernelRow, **changes: object) -> _native.ConvLayer:
    """A layer that a row takes, of small operands, with changes."""
    kernel = (row.window, row.window) if row.window else (1, 1)
    fields: dict[str, object] = {
        "inputs": (64, *SIZE),
        "outputs": (64, *SIZE),
        "kernel": kernel,
        "stride": (1, 1),
        "padding": (kernel[0] // 2, kernel[1] // 2),
        "dilation": (1, 1),
        "groups": some_groups(row, 64),
        "low": 0,
        "high": 1,
        "most_weight": 1,
        "is_padded": True,
    }
    return _native.ConvLayer(**{**fields, **changes})  # type: ignore[arg-type]


def most_weight(row: _native.KernelRow, dtype: DType) -> int:
    """The largest weight that a row takes with inputs of a type; 0 where it takes none."""
    sizes = range(128, 0, -1)
    return next((w for w in sizes if row.why_not(make_layer(row, **bounds(dtype), most_weight=w)) is None), 0)


def bounds(dtype: DType) -> dict[str, int]:
    return {"low": dtype.minimum, "high": dtype.maximum}


def shapes(row: _native.KernelRow) -> Iterator[tuple[int, int, int, int]]:
    """(groups, inputs, outputs, kernel) of layers for a row: enough channels that 16 bits hold no sum of them."""
    if row.takes_groups:
        yield (70, 70, 70, 3)
    if row.takes_groups and not row.is_depthwise:
        yield (3, 120, 36, 3)
    if not row.is_for_groups:
        yield from ((1, 150, 40, 3),) if row.window else ((1, 300, 70, 1), (1, 40, 33, 3))


def signs(shape: tuple[int, ...]) -> Iterator[Array]:
    """Signs of weights by (input, row, column): all of one, changing with each channel, pair or quad, in halves."""
    inputs = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
    channel = np.broadcast_to(np.arange(shape[1])[:, None, None], shape[1:])
    yield np.ones(shape[1:], int)
    yield -np.ones(shape[1:], int)
    for period in (1, 2, 4):
        yield np.where(channel // period % 2, 1, -1)
    yield np.where(2 * inputs < inputs.size, 1, -1)
    yield np.where(inputs % 2, -1, 1)


def extreme_layer(row: _native.KernelRow, dtype: DType, size: int, shape: tuple[int, int, int, int]) -> Graph:
    """A convolution whose outputs have each pattern of signs in turn, every weight the largest there is."""
    groups, inputs, outputs, kernel = shape
    kind = DType.S4 if size <= 8 else DType.S8
    patterns = np.array(list(signs((outputs, inputs // groups, kernel, kernel))))
    weight = np.clip(size * patterns[np.arange(outputs) % len(patterns)], kind.minimum, kind.maximum)
    network = Network(dtype, (inputs, *SIZE))
    source = copied(network, dtype)
    network.add(
        Conv2d(
            name="conv",
            inputs=(source,),
            input_type=dtype,
            weight=Tensor.from_array(kind, weight),
            padding=Padding(*(kernel // 2,) * 4),
            groups=groups,
        )
    )
    network.requantize("quantize", "conv", DType.S8, 3, 14)
    return network.graph()


def extreme_inputs(dtype: DType, inputs: int) -> Array:
    """All largest, all least; largest where a pattern of channels is positive, least elsewhere, and the reverse."""
    channel = np.arange(inputs)
    masks = [channel >= 0, channel < 0]
    for period in (1, 2, 4):
        masks += [channel // period % 2 == 0, channel // period % 2 == 1]
    masks += [2 * channel < inputs, 2 * channel >= inputs]
    images = [np.where(mask, dtype.maximum, dtype.minimum) for mask in masks]
    return np.broadcast_to(np.array(images)[:, :, None, None], (len(images), inputs, *SIZE)).astype(dtype.storage)


@EVERY_ROW
@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
def test_a_row_is_exact_at_its_bound(row: _native.KernelRow, dtype: DType) -> None:
    """Largest inputs by largest weights, of signs that drive sums to both ends, as the portable kernel has them."""
    size = most_weight(row, dtype)
    if size == 0:
        assert row.why_not(make_layer(row, **bounds(dtype))) is not None
        return
    for shape in shapes(row):
        graph = extreme_layer(row, dtype, size, shape)
        images = extreme_inputs(dtype, shape[1])
        with Engine(graph, threads=1, isa="scalar", tuned=False) as oracle:
            assert oracle.plan.kernels["quantize"].method == "direct"
            expected = oracle.tap(images)
            plain = oracle.run_integer(images)

        def force(steps: list[Step], step: Step, isa: str) -> Kernel:
            return kernel_of(steps, step, isa, row.name, 64)

        with forced(force), Engine(graph, threads=1, isa=row.isa, tuned=False) as engine:
            assert engine.plan.kernels["quantize"].method == row.name
            for name, value in engine.tap(images).items():
                assert_same(value, expected[name], f"{row.isa} {row.name} {shape} {name}")
            assert_same(engine.run_integer(images), plain)
            if row.isa != "scalar":
                compared(engine)


def beyond(row: _native.KernelRow) -> Iterator[dict[str, object]]:
    """Layers one step beyond each claim of a row."""
    for dtype in ACTIVATIONS:
        size = most_weight(row, dtype)
        if 0 < size < 128:
            yield {**bounds(dtype), "most_weight": size + 1}
    if row.most_input < 255:
        yield {"high": row.most_input + 1}
    if row.most_span < 510:
        yield from ({"high": row.most_span + 1}, {"low": -row.most_span, "high": 1})
    if not row.takes_signed:
        yield {"low": -2, "high": 1}
    if row.is_padded:
        yield {"is_padded": False}
    if row.is_depthwise or not row.takes_groups:
        yield {"groups": 2}
    if row.window:
        yield from ({"stride": (2, 1)}, {"stride": (1, 2)}, {"dilation": (2, 1)}, {"dilation": (1, 2)})
        yield from ({"kernel": (row.window, row.window + 1)}, {"kernel": (1, row.window)})
    yield {"high": 256}
    yield {"high": 0}


@EVERY_ROW
def test_a_row_refuses_what_lies_one_step_beyond(row: _native.KernelRow) -> None:
    assert row.why_not(make_layer(row)) is None
    for changes in beyond(row):
        asked = make_layer(row, **changes)
        assert row.why_not(asked) is not None, changes
        assert row.why_not_chosen(asked) is not None, changes
        with pytest.raises(ValueError, match=f"conv: {row.name}: "):
            run_natively(row, changes)


@EVERY_ROW
def test_sums_that_a_row_multiplies_fit_32_bits(row: _native.KernelRow) -> None:
    """As many channels as fit, of the largest inputs and weights, and one more."""
    if not row.times_sums:
        return
    largest = {"high": row.most_span, "most_weight": row.most_weight}
    most = (2**31 - 1) // (row.times_sums * row.window**2 * row.most_span * row.most_weight)
    assert row.why_not(make_layer(row, inputs=(most, *SIZE), **largest)) is None
    assert "32 bits" in str(row.why_not(make_layer(row, inputs=(most + 1, *SIZE), **largest)))


@EVERY_ROW
def test_the_executor_takes_what_a_row_takes(row: _native.KernelRow) -> None:
    run_natively(row, {})
    for dtype in ACTIVATIONS:
        if size := most_weight(row, dtype):
            run_natively(row, {**bounds(dtype), "most_weight": size})


def run_natively(row: _native.KernelRow, changes: dict[str, object]) -> None:
    """The layer of :func:`make_layer` as a native program, with weights of both signs."""
    fields = {"kernel": (row.window or 1,) * 2, "stride": (1, 1), "dilation": (1, 1), "low": 0, "high": 1} | changes
    groups = fields.get("groups", some_groups(row, 48))
    element = "s8" if fields["low"] < 0 else "u8"  # type: ignore[operator]
    program = _native.Program(isa=row.isa, threads=1, most_images=1, arena_bytes=1 << 16)
    # A tight value is the network's input; 48 channels are not a multiple of what padding is to.
    image = program.add_value(element, 48, 4, 5, True, 0)
    program.set_input(image)
    spec = _native.ConvSpec()
    spec.input = image
    lists: list[int] = []
    if fields.get("is_padded", True):
        spec.input = program.add_value(element, 48, 4, 5, False, 1024)
        if row.list_group and element == "u8":
            lists = [program.add_lists(spec.input, row.list_group, 16, 4096)]
        point = _native.PointSpec()
        point.input, point.output, point.requantize, point.output_lists = image, spec.input, True, lists
        rule = _native.Requantize()
        rule.factor, rule.shift = [1] * 48, 0
        rule.low, rule.high = (-128, 127) if element == "s8" else (0, 255)
        point.rule = rule
        program.add_point(point)
    if row.list_group:
        # Where lists cannot be built there is no convolution that could read them.
        if not lists:
            raise ValueError(f"conv: {row.name}: no lists")
        spec.lists = lists[0]
    spec.output = program.add_value("s32", 48, 4, 5, False, 1 << 14)
    spec.method, spec.groups = row.name, groups  # type: ignore[assignment]
    spec.magnitude = max(fields["high"], -fields["low"])  # type: ignore[operator, type-var, assignment]
    (spec.kernel_h, spec.kernel_w), (spec.stride_h, spec.stride_w) = fields["kernel"], fields["stride"]  # type: ignore[misc]
    spec.dilation_h, spec.dilation_w = fields["dilation"]  # type: ignore[misc]
    spec.pad_top = spec.pad_left = spec.kernel_h // 2
    spec.block_outputs = 32
    size = fields.get("most_weight", 1)
    weights = np.full((48, 48 // groups, spec.kernel_h, spec.kernel_w), size, np.int64)  # type: ignore[operator]
    weights[::2] *= -1
    program.add_conv(spec, np.clip(weights, -128, 127).astype(np.int8))


@EVERY_ROW
def test_cuts_up_to_the_largest_and_none_beyond(row: _native.KernelRow) -> None:
    asked = make_layer(row)
    blocks = row.list_blocks(asked)
    assert bool(blocks) == bool(row.list_group)
    fits = {
        "block_outputs": row.most_outputs,
        "tile_pixels": 64,
        "visit_bytes": 1 << 24,
        "list_block": max(blocks, default=0),
    }
    assert row.why_not_cut(asked, **fits) is None
    assert row.scratch_bytes(asked, block_outputs=row.most_outputs, tile_pixels=64) > 0
    for name, wrong in (
        ("block_outputs", row.most_outputs + _native.CHANNEL_ALIGN),
        ("block_outputs", row.most_outputs - 1),
        ("block_outputs", 0),
        ("tile_pixels", 65),
        ("tile_pixels", 0),
        ("visit_bytes", (1 << 24) + 1),
        ("visit_bytes", 0),
        ("list_block", 0 if blocks else 16),
        ("list_block", 128),
        ("list_block", 48),
    ):
        assert name in str(row.why_not_cut(asked, **{**fits, name: wrong})), (name, wrong)


@EVERY_ROW
def test_lists_have_blocks_whose_worst_sum_fits(row: _native.KernelRow) -> None:
    """Products of a block: as many as fit 16 bits, where sums have so many."""
    if not row.list_group:
        return
    for high, weight in ((15, 8), (15, 34), (15, 35), (15, 68), (1, 128), (127, 8), (127, 9)):
        asked = make_layer(row, high=high, most_weight=weight)
        wanted = [
            block for block in (16, 32, 64) if row.products16 * block * high * weight < 1 << 15 or not row.products16
        ]
        assert row.list_blocks(asked) == wanted
        assert (row.why_not(asked) is None) == bool(wanted)


@pytest.mark.parametrize("dtype", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("kind", [DType.S4, DType.S8], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_types_alone_decide(isa: str, kind: DType, dtype: DType) -> None:
    """Weights that happen to be small change nothing, but between kernels one of which says that it depends on them."""
    chosen = []
    for largest in (1, kind.maximum):
        network = Network(dtype, (64, 9, 9))
        weight = np.full((64, 64, 3, 3), largest)
        source = copied(network, dtype)
        network.add(Conv2d(name="conv", inputs=(source,), input_type=dtype, weight=Tensor.from_array(kind, weight)))
        graph = network.graph()
        step = convolutions(graph)["conv"]
        assert layer(step).most_weight == kind.magnitude
        chosen.append((methods(step, isa), choose_kernel(step, isa)))
    assert chosen[0][0] == chosen[1][0]
    default = [kernel.method for _, kernel in chosen]
    assert default[0] == default[1] or any(rows(isa)[method].depends_on_weights for method in default)


@pytest.mark.parametrize("isa", _native.built_isas())
def test_tables_are_whole(isa: str) -> None:
    """Names are unique, the portable kernel first; every row says what it does and what it needs."""
    table = _native.kernel_rows(isa)
    assert len({row.name for row in table}) == len(table)
    assert table[0].name == "direct"
    for row in table:
        assert row.isa == isa
        assert row.summary
        assert _native.CHANNEL_ALIGN <= row.usual_outputs <= row.most_outputs <= 256
        assert 1 <= row.usual_pixels <= 64
    with pytest.raises(ValueError, match="unknown instruction set"):
        _native.kernel_rows("sse9")


def test_rows_need_what_this_machine_has() -> None:
    # qemu-user shows the features of the machine it runs on: tests/cross/test_processor.py asks there.
    if _native.EMULATED or "QEMU_CPU" in os.environ:
        pytest.skip("this processor runs emulated instructions")
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    flags = next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), None
    )
    if flags is None:
        pytest.skip("the processor's features are not in /proc/cpuinfo")
    for isa in _native.built_isas():
        if isa in available_isas():
            assert {need for row in rows(isa).values() for need in row.needs.split()} <= flags
        else:
            assert _native.is_for_tests(isa) or not set(rows(isa)["direct"].needs.split()) <= flags
