"""Synthetic networks: alive in every layer, the same for one seed everywhere, labelled, and writable."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from nybble import synthetic
from nybble.graph import DType, Graph, Quantize, ReLU, Scale, read_graph, write_graph
from nybble.images import class_names
from nybble.reference import interpret
from nybble.synthetic import bottleneck_resnet


@pytest.fixture(scope="module")
def small() -> Graph:
    return bottleneck_resnet(blocks=(2, 1), width=8, classes=10, image=32, seed=3)


def digest(graph: Graph) -> str:
    """Of every parameter, in order."""
    found = hashlib.sha256()
    for node in graph:
        for name in ("weight", "bias", "factor", "out_scale"):
            tensor = getattr(node, name, None)
            if tensor is not None:
                found.update(tensor.raw())
    return found.hexdigest()


def test_one_seed_gives_one_network(small: Graph) -> None:
    again = bottleneck_resnet(blocks=(2, 1), width=8, classes=10, image=32, seed=3)
    other = bottleneck_resnet(blocks=(2, 1), width=8, classes=10, image=32, seed=4)
    assert digest(small) == digest(again) == "ae461d724cfdd894bb0a934dd04ddaa627283d8452ef16a7b15e1d0e230b6516"
    assert digest(small) != digest(other)


@pytest.mark.parametrize(("blocks", "width", "image"), [((2, 1), 8, 32), ((1, 1, 1, 1), 8, 32), ((1,), 5, 20)])
def test_activations_are_alive_in_every_layer(blocks: tuple[int, ...], width: int, image: int) -> None:
    graph = bottleneck_resnet(blocks=blocks, width=width, classes=7, image=image)
    # Not the images it was calibrated on, but like them.
    check_alive(graph, synthetic.clouds(np.random.RandomState(99), 24, image), zeros=(0.4, 0.8), clipped=0.15)


def check_alive(graph: Graph, batch: np.ndarray, zeros: tuple[float, float], clipped: float) -> None:
    values = interpret(graph, batch, keep=None)
    for node in graph:
        if isinstance(node, Quantize) and node.output_type in (DType.U4, DType.U7):
            value = values[node.name]
            assert zeros[0] < (value == 0).mean() < zeros[1], node.name
            assert (value == node.output_type.maximum).mean() < clipped, node.name
            assert len(np.unique(value)) > 8, node.name
            is_dead = value.max(axis=(0, 2, 3)) == 0
            assert is_dead.mean() < 0.2, node.name
    logits = values[graph.outputs[0]]
    assert 0.3 < logits.std() < 30
    assert len(np.unique(logits, axis=0)) == len(batch)


def test_it_says_what_it_is(small: Graph) -> None:
    assert class_names(small)[:2] == ("synthetic class 0", "synthetic class 1")
    assert small.preprocessing is not None
    assert small.preprocessing.crop == (32, 32)
    assert small.preprocessing.resize == 36


def test_names_are_those_of_the_directory(small: Graph, tmp_path: Path) -> None:
    """Written and read again it is the same network, so the containers of the format can express it."""
    names = [node.name for node in small]
    assert names[:4] == ["conv1", "relu", "quantize1", "maxpool"]
    assert names[4:10] == [
        f"layer1_0_{part}" for part in ("conv1", "relu1", "quantize1", "conv2", "relu2", "quantize2")
    ]
    assert "layer1_0_downsample_2" in names
    assert "layer1_1_downsample" in names
    assert names[-3:] == ["avgpool", "fc", "scale"]
    write_graph(small, tmp_path / "model")
    read = read_graph(tmp_path / "model")
    batch = np.random.default_rng(1).integers(-127, 128, (2, 3, 32, 32))
    np.testing.assert_array_equal(interpret(read, batch)["scale"], interpret(small, batch)["scale"])


@pytest.fixture(scope="module")
def large() -> Graph:
    return bottleneck_resnet()


def test_resnet50_has_the_published_shape(large: Graph) -> None:
    graph = large
    assert graph.values["input"].shape == (3, 224, 224)
    assert graph.values["layer4_2_quantize3"].dtype is DType.U7
    assert graph.values[graph.outputs[0]].shape == (1000,)
    parameters = sum(node.weight.size for node in graph if hasattr(node, "weight"))
    assert parameters == 25_502_912
    assert sum(isinstance(node, ReLU) for node in graph) == 49
    assert isinstance(graph.nodes[-1], Scale)


def test_resnet50_is_alive_even_on_white_noise(large: Graph) -> None:
    noise = np.random.default_rng(0).integers(-127, 128, (2, 3, 224, 224))
    check_alive(large, noise, zeros=(0.45, 0.7), clipped=0.3)


@pytest.mark.data
def test_resnet50_has_the_published_names(shared_data: Path, large: Graph) -> None:
    published = read_graph(shared_data / "nvidia-resnet50-int4")
    assert {node.name: (node.op, node.inputs) for node in published} == {
        node.name: (node.op, node.inputs) for node in large
    }
    assert {name: (value.dtype, value.shape) for name, value in published.values.items()} == {
        name: (value.dtype, value.shape) for name, value in large.values.items()
    }


@pytest.mark.parametrize("wrong", [{"blocks": ()}, {"width": 0}, {"image": 100}, {"classes": 0}, {"blocks": (1, 0)}])
def test_sizes_that_make_no_network_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1|not a multiple of 32"):
        bottleneck_resnet(**wrong)  # type: ignore[arg-type]
