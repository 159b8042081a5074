"""When a projection runs in the kernel of the convolution that adds it, and when codes have the quick epilogue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nybble.backends.cuda.plan import CudaPlan, make_plan
from nybble.backends.cuda.rules import fits, gives_codes, is_narrow
from nybble.graph import Add, Conv2d, DType, Graph, Input, MaxPool2d, Node, Padding, Pair, Quantize, ReLU, Table, Tensor


def conv(name: str, channels: int = 4, outputs: int = 3, size: int = 1, dtype: DType = DType.U4) -> Conv2d:
    kind = DType.S4 if dtype.bits == 4 else DType.S8
    weight = Tensor.from_array(kind, np.ones((outputs, channels, size, size), np.int8))
    return Conv2d(name=name, inputs=("entry",), input_type=dtype, weight=weight)


def codes(name: str, source: str, factors: Any = 1, shift: int = 4, target: DType = DType.U4) -> Quantize:
    factor = Tensor.from_array(DType.U32, np.broadcast_to(np.array(factors, np.uint32), 3).copy())
    is_relu = source.startswith("relu")
    kind = DType.U31 if is_relu else DType.S32
    return Quantize(name=name, inputs=(source,), input_type=kind, output_type=target, factor=factor, shift=shift)


def rescaled(name: str, source: str, kind: DType, factors: Any = 3, shift: int = 1) -> Quantize:
    return replace(codes(name, source, factors, shift, DType.S32), input_type=kind)


def block(*, outputs: tuple[str, ...] = ("codes",), table: Node | None = None, **changed: Node) -> Graph:
    """A block whose nodes may be replaced by their names. A stored value, ``entry``, is what both convolutions read."""
    pool = MaxPool2d(name="entry", inputs=("x",), input_type=DType.U4, kernel_size=Pair(2, 2), stride=Pair(1, 1))
    nodes: list[Node] = [
        pool,
        conv("projection"),
        codes("side", "projection", target=DType.S8),
        *(() if table is None else (table,)),
        rescaled("again", "side", DType.S8),
        conv("conv"),
        Add(name="add", inputs=("conv", "again")),
        ReLU(name="relu", inputs=("add",)),
        codes("codes", "relu"),
    ]
    nodes = [changed.get(node.name, node) for node in nodes]
    return Graph([Input(name="x", dtype=DType.U4, shape=(4, 6, 5))], nodes, outputs)


def runs(graph: Graph, **kernels: str) -> list[int]:
    return [len(run.steps) for run in make_plan(graph, kernels).runs]


JOINED, APART = [1, 2], [1, 1, 1]


def test_a_projection_is_never_stored() -> None:
    plan: CudaPlan = make_plan(block(), {})
    assert [len(run.steps) for run in plan.runs] == JOINED
    assert "side" not in plan.offsets and "entry" in plan.offsets
    run = plan.runs[-1]
    assert run.has_projection and run.output == "codes"
    assert [value.name for value in run.inputs] == ["entry", "entry"]
    assert run.whole.macs == sum(step.macs for step in run.steps)
    assert {node.name for node in run.whole.nodes} >= {"projection", "side", "again", "conv", "add", "codes"}


@pytest.mark.parametrize(
    "changed",
    [
        {"conv": replace(conv("conv", size=3), padding=Padding(1, 1, 1, 1))},
        {"projection": replace(conv("projection", size=3), padding=Padding(1, 1, 1, 1))},
        {"codes": codes("codes", "relu", target=DType.S4)},
        {"codes": codes("codes", "relu", target=DType.U8)},
        {"codes": codes("codes", "relu", factors=(1, 1, 1 << 30))},
        {"relu": ReLU(name="relu", inputs=("add",), maximum=5)},
        {"side": codes("side", "projection", factors=1 << 30, target=DType.S8)},
        {"again": rescaled("again", "side", DType.S8, 1 << 29)},
        {"outputs": ("codes", "side")},
    ],
    ids=[
        "a window",
        "a window of the projection",
        "signed",
        "8 bits",
        "beyond 32 bits",
        "cut off",
        "projection beyond 32 bits",
        "rescaled beyond 32 bits",
        "read elsewhere",
    ],
)
def test_others_have_kernels_of_their_own(changed: dict[str, Any]) -> None:
    assert runs(block(**changed)) == APART


def test_a_projection_with_a_table_has_a_kernel_of_its_own() -> None:
    entries = Tensor.from_array(DType.S16, np.arange(-128, 128))
    table = Table(name="table", inputs=("side",), input_type=DType.S8, output_type=DType.S8, table=entries)
    assert runs(block(table=table, again=rescaled("again", "table", DType.S8))) == APART


def test_sums_are_added_as_they_are() -> None:
    graph = block(add=Add(name="add", inputs=("conv", "projection")))
    kept = [node for node in graph if node.name not in ("side", "again")]
    assert runs(Graph(graph.inputs, kept, graph.outputs)) == JOINED


def test_kernels_that_are_chosen_apart_keep_them_apart() -> None:
    assert runs(block(), codes="join_u4s4_m64n64k32") == JOINED
    assert runs(block(), codes="conv_u4s4_m64n64k32_one_any") == APART
    assert runs(block(), side="conv_u4s4_m64n64k32_one_any") == APART


def test_bounds_are_those_of_each_channel() -> None:
    """The largest sum and the largest factor are those of different channels."""
    weight = np.ones((3, 4, 1, 1), np.int8)
    weight[0] = 7
    wide = replace(conv("conv"), weight=Tensor.from_array(DType.S4, weight))
    most = (1 << 31) // (4 * 15) - 1
    for factors, expected in (((1, most, most), True), ((most, 1, 1), False)):
        nodes: list[Node] = [
            MaxPool2d(name="entry", inputs=("x",), input_type=DType.U4, kernel_size=Pair(1, 1), stride=Pair(1, 1)),
            wide,
            codes("codes", "conv", factors, 5),
        ]
        plan = make_plan(Graph([Input(name="x", dtype=DType.U4, shape=(4, 2, 2))], nodes, ["codes"]), {})
        (step,) = [step for step in plan.steps if step.conv is not None]
        assert is_narrow(step) is expected
        assert gives_codes(step, plan.values) is expected


def test_what_fits() -> None:
    rule = codes("codes", "conv", factors=(1 << 20), shift=4)
    assert fits((1 << 11) - 1, rule) and not fits(1 << 11, rule)
    assert fits(0, replace(rule, shift=31))
