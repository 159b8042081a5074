"""Choices: every kernel that the tuner can make agrees with the reference; what is not legal is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from agreement import ISAS, assert_engine_agrees, assert_same
from networks import Network, copied
from processors import PROCESSORS, pretend

from nybble.backends.cpu.choices import ChoiceError, Choices, candidates, check, convolutions, methods
from nybble.backends.cpu.kernel import LIST_GROUPS, Kernel, choose_kernel
from nybble.backends.cpu.order import channel_orders, match, order_classes
from nybble.backends.cpu.plan import lists_of
from nybble.engine import Engine
from nybble.graph import Add, Conv2d, DType, Graph, Linear, Padding, Pair, ReLU, Tensor
from nybble.lower import fuse
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet
from strategies import values_of

VECTOR_ISAS = [isa for isa in ISAS if isa != "scalar"]


def miniature() -> Graph:
    """A 3x3 layer on the input, a 3x3 and a 1x1 layer that share lists, a 1x1 with a shortcut, and a classifier."""
    random = np.random.default_rng(5)
    network = Network(DType.S8, (3, 4, 5))

    def conv(name: str, source: str, outputs: int, kernel: int, kind: DType = DType.S4) -> str:
        value = network.values[source]
        weight = random.integers(kind.minimum, kind.maximum, (outputs, value.shape[0], kernel, kernel), endpoint=True)
        return network.add(
            Conv2d(
                name=name,
                inputs=(source,),
                input_type=value.dtype,
                weight=Tensor.from_array(kind, weight),
                bias=Tensor.from_array(DType.S16, random.integers(-200, 200, outputs)),
                padding=Padding(*(kernel // 2,) * 4),
            )
        )

    def narrowed(name: str, sums: str, target: DType = DType.U4) -> str:
        relu = network.add(ReLU(name=f"{name}_relu", inputs=(sums,)))
        factor = max(1, int(3 * target.maximum * 2**20 / network.values[sums].magnitude))
        return network.requantize(name, relu, target, factor, 20)

    first = narrowed("first", conv("stem", "image", 37, 3))
    inner = narrowed("inner", conv("inner_conv", first, 70, 3))
    shortcut = conv("projection", first, 133, 1)
    sums = network.add(Add(name="add", inputs=(conv("outer_conv", inner, 133, 1), shortcut)))
    outer = narrowed("outer", sums, DType.U7)
    last = narrowed("last", conv("last_conv", outer, 20, 1), DType.U8)
    weight = random.integers(-128, 127, (67, 20 * 4 * 5), endpoint=True)
    network.add(Linear(name="fc", inputs=(last,), input_type=DType.U8, weight=Tensor.from_array(DType.S8, weight)))
    return network.graph()


GRAPH = miniature()
IMAGES = values_of(DType.S8, (2, 3, 4, 5), "random", 8)
EXPECTED = interpret(GRAPH, IMAGES, keep=None)
LAYERS = convolutions(GRAPH)
#: Known, they need not be found for each engine.
ORDERS = channel_orders(fuse(GRAPH))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("isa", ISAS)
def test_every_candidate_agrees_with_the_reference(isa: str, name: str) -> None:
    found = candidates(LAYERS[name], isa)
    assert len(set(found)) == len(found)
    assert {kernel.method for kernel in found} == set(methods(LAYERS[name], isa)) - (
        {"direct"} if isa != "scalar" else set()
    )
    for kernel in found:
        choices = Choices({name: kernel}, ORDERS)
        with Engine(GRAPH, threads=1, isa=isa, choices=choices) as engine:
            used = engine.plan.kernels[name]
            # Lists are shared with layers that may need smaller blocks.
            assert replace(used, list_block=0) == replace(kernel, list_block=0)
            tapped = engine.tap(IMAGES)
            for value, array in tapped.items():
                assert_same(array, EXPECTED[value], f"{name} {kernel} value {value}")


@pytest.mark.parametrize("isa", VECTOR_ISAS)
def test_every_layer_tries_its_methods(isa: str) -> None:
    found = {name: set(methods(step, isa)) for name, step in LAYERS.items()}
    assert "sparse" not in found["first"]
    assert found["inner"] >= {"direct", "wide", "quad", "sparse", "sparse_quad"}
    assert "sparse" not in found["fc"]


@pytest.mark.parametrize("isa", ISAS)
def test_any_order_agrees_with_the_reference(isa: str) -> None:
    random = np.random.default_rng(3)
    orders = {}
    for values in order_classes(fuse(GRAPH)):
        order = random.permutation(GRAPH.values[values[0]].shape[0])
        orders.update(dict.fromkeys(values, order))
    assert len(orders) >= 4
    with Engine(GRAPH, threads=2, isa=isa, choices=Choices({}, orders)) as engine:
        assert_engine_agrees(engine, IMAGES, EXPECTED)


def test_a_plan_says_whether_it_is_tuned() -> None:
    assert str(Engine(GRAPH, choices=Choices()).plan).split(", ")[1] == "tuned"
    assert str(Engine(GRAPH).plan).split(", ")[1] == "not tuned"


def test_small_weights_of_a_wide_type_run_as_any_others_of_it() -> None:
    """Weights of type s8 could overflow 16 bits in any block of pairs; that these could not is not a reason."""
    network = Network(DType.U4, (40, 6, 6))
    weight = np.random.default_rng(0).integers(-7, 7, (33, 40, 3, 3), endpoint=True)
    source = copied(network, DType.U4)
    network.add(Conv2d(name="conv", inputs=(source,), input_type=DType.U4, weight=Tensor.from_array(DType.S8, weight)))
    graph = network.graph()
    for isa in VECTOR_ISAS:
        found = {kernel.method for kernel in candidates(convolutions(graph)["conv"], isa)}
        assert found.isdisjoint({"sparse", "winograd", "chained"})
        assert "sparse_quad" in found


ILLEGAL: dict[str, Callable[[Kernel], Kernel]] = {
    "method": lambda kernel: replace(kernel, method="magic"),
    "odd outputs": lambda kernel: replace(kernel, block_outputs=100),
    "no outputs": lambda kernel: replace(kernel, block_outputs=0),
    "many outputs": lambda kernel: replace(kernel, block_outputs=288),
    "no pixels": lambda kernel: replace(kernel, tile_pixels=0),
    "many pixels": lambda kernel: replace(kernel, tile_pixels=65),
    "no visit": lambda kernel: replace(kernel, visit_bytes=0),
    "large visit": lambda kernel: replace(kernel, visit_bytes=(1 << 24) + 1),
    "no list block": lambda kernel: replace(kernel, list_block=0),
    "odd list block": lambda kernel: replace(kernel, list_block=48),
    "lists for none": lambda kernel: replace(kernel, method="wide"),
}


@pytest.mark.parametrize("change", ILLEGAL.values(), ids=ILLEGAL)
@pytest.mark.skipif(not VECTOR_ISAS, reason="needs lists")
def test_illegal_kernels_are_refused(change: Callable[[Kernel], Kernel]) -> None:
    isa = VECTOR_ISAS[0]
    legal = next(kernel for kernel in candidates(LAYERS["inner"], isa) if kernel.method in LIST_GROUPS)
    check(GRAPH, isa, Choices({"inner": legal}))
    with pytest.raises(ChoiceError, match="inner"):
        check(GRAPH, isa, Choices({"inner": change(legal)}))


def test_kernels_of_other_layers_and_instruction_sets_are_refused() -> None:
    with pytest.raises(ChoiceError, match="no such convolution"):
        Engine(GRAPH, choices=Choices({"add": Kernel("direct")}))
    with pytest.raises(ChoiceError, match="cannot run it"):
        Engine(GRAPH, isa="scalar", choices=Choices({"inner": Kernel("wide")}))
    for isa in VECTOR_ISAS:
        with pytest.raises(ChoiceError, match="cannot run it"):
            # The input is stored without channel padding.
            Engine(GRAPH, isa=isa, choices=Choices({"first": Kernel("sparse", list_block=16)}))


def test_orders_that_are_none_are_refused() -> None:
    order = np.arange(70)
    for wrong in (order[:-1], np.append(order, 70), np.zeros(70, int), np.roll(order, 1) - 1, order + 1):
        with pytest.raises(ChoiceError, match="permutation"):
            check(GRAPH, "scalar", Choices({}, {"inner": wrong}))
    with pytest.raises(ChoiceError, match="not free"):
        check(GRAPH, "scalar", Choices({}, {"image": np.arange(3)}))
    with pytest.raises(ChoiceError, match="not free"):
        check(GRAPH, "scalar", Choices({}, {"fc": np.arange(67)}))


def test_orders_of_values_that_are_tied_together_must_be_the_same() -> None:
    graph = bottleneck_resnet(blocks=(2,), width=8, classes=10, image=16)
    tied = next(values for values in order_classes(fuse(graph)) if len(values) > 1)
    size = graph.values[tied[0]].shape[0]
    order = match(np.random.default_rng(0).random((size, size)))
    check(graph, "scalar", Choices({}, dict.fromkeys(tied, order)))
    for wrong in ({tied[0]: order}, {**dict.fromkeys(tied, order), tied[1]: np.roll(order, 1)}):
        with pytest.raises(ChoiceError, match="tied together"):
            check(graph, "scalar", Choices({}, wrong))


@pytest.mark.parametrize("processor", PROCESSORS)
def test_lists_of_pairs_beside_dot_products(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where dense dot products are twice as fast lists are for late layers alone, and elsewhere for most."""
    pretend(processor, monkeypatch)
    for isa in {"avx512vnni", "avxvnni"} & set(VECTOR_ISAS):
        is_fast = processor == "intel" and isa == "avx512vnni"
        layers = (256, 1, 14, False), (512, 1, 16, True), (512, 1, 17, False), (128, 3, 9, False), (256, 3, 9, True)
        for channels, kernel, size, is_late in layers:
            network = Network(DType.U4, (channels, size, size))
            weight = np.ones((128, channels, kernel, kernel), np.int64)
            source = copied(network, DType.U4)
            tensor = Tensor.from_array(DType.S4, weight)
            network.add(Conv2d(name="conv", inputs=(source,), input_type=DType.U4, weight=tensor, stride=Pair(2, 2)))
            method = choose_kernel(convolutions(network.graph())["conv"], isa).method
            assert method == ("sparse" if is_late or not is_fast else "quad")


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_fast_inner_product_by_default(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sums have ports of their own: pointwise layers, but those of few channels and late ones."""
    pretend(processor, monkeypatch)
    for isa in VECTOR_ISAS:
        for channels, outputs, kernel, size, is_wanted in (
            (256, 128, 1, 56, True),
            (256, 128, 1, 27, True),
            (256, 128, 1, 26, False),
            (64, 128, 1, 56, True),
            (32, 128, 1, 56, False),
            (256, 64, 1, 56, True),
            (224, 64, 1, 56, False),
            (1024, 480, 1, 28, True),
            (1024, 512, 1, 28, False),
            (992, 512, 1, 28, True),
            (256, 128, 3, 57, processor == "zen5"),
            (256, 128, 3, 56, False),
            (256, 64, 3, 57, False),
            (32, 128, 3, 57, False),
        ):
            weight = np.ones((outputs, channels, kernel, kernel), np.int64)
            network = Network(DType.U4, (channels, size, size))
            source = copied(network, DType.U4)
            tensor = Tensor.from_array(DType.S4, weight)
            network.add(Conv2d(name="conv", inputs=(source,), input_type=DType.U4, weight=tensor, stride=Pair(2, 2)))
            method = choose_kernel(convolutions(network.graph())["conv"], isa).method
            assert (method == "inner") is (is_wanted and processor != "intel" and isa == "avx512vnni")


@pytest.mark.parametrize("processor", PROCESSORS)
def test_lists_of_quads_beside_dot_products(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bits: lists are for large windows of many channels, and on Zen 5 for small images alone."""
    pretend(processor, monkeypatch)
    for isa in {"avx512vnni", "avxvnni"} & set(VECTOR_ISAS):
        is_doubled = processor == "zen5" and isa == "avx512vnni"
        for channels, size, wanted in ((256, 8, True), (256, 9, not is_doubled), (224, 8, False)):
            network = Network(DType.U8, (channels, size, size))
            source = copied(network, DType.U8)
            tensor = Tensor.from_array(DType.S8, np.full((128, channels, 3, 3), 127))
            network.add(
                Conv2d(name="conv", inputs=(source,), input_type=DType.U8, weight=tensor, padding=Padding(1, 1, 1, 1))
            )
            found = choose_kernel(convolutions(network.graph())["conv"], isa)
            assert found.method == ("sparse_quad" if wanted else "quad")
            assert wanted or found.block_outputs == (256 if is_doubled else 128)


def test_lists_of_each_group_have_a_place_of_their_own() -> None:
    # A build may have kernels for some of these only.
    groups = {1, 2, 4}
    assert set(LIST_GROUPS.values()) <= groups
    assert len({lists_of("value", group) for group in groups}) == len(groups)
