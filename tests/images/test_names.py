"""Which names the classes get."""

from __future__ import annotations

import numpy as np
import pytest

from nybble.graph import DType, Graph, GraphError, Input, Linear, MaxPool2d, Pair, Tensor
from nybble.images import class_names


def classifier(classes: int, names: list[str] | None = None) -> Graph:
    weight = Tensor.from_array(DType.S8, np.ones((classes, 2), np.int8))
    node = Linear(name="y", inputs=("x",), input_type=DType.U8, weight=weight)
    return Graph([Input(name="x", dtype=DType.U8, shape=(2,))], [node], ["y"], class_names=names)


def test_own_names_come_first() -> None:
    assert class_names(classifier(2, ["cat", "dog"])) == ("cat", "dog")
    own = [f"own {index}" for index in range(1000)]
    assert class_names(classifier(1000, own)) == tuple(own)


def test_a_thousand_classes_are_imagenets() -> None:
    names = class_names(classifier(1000))
    assert len(set(names)) == 1000
    # Labels of the development photos: index and what the photo shows.
    assert (names[0], names[47], names[109], names[985]) == ("tench", "African chameleon", "brain coral", "daisy")
    assert all(name == name.strip() and name for name in names)


def test_others_are_numbered() -> None:
    assert class_names(classifier(3)) == ("class 0", "class 1", "class 2")


def test_a_map_has_no_classes() -> None:
    node = MaxPool2d(name="y", inputs=("x",), input_type=DType.U8, kernel_size=Pair(1, 1), stride=Pair(1, 1))
    graph = Graph([Input(name="x", dtype=DType.U8, shape=(3, 2, 2))], [node], ["y"])
    with pytest.raises(GraphError, match=r"the output is u8\[3x2x2\], not one number for each class"):
        class_names(graph)
