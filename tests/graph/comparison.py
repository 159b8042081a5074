"""Whether two graphs say the same, values of tensors included."""

from __future__ import annotations

from dataclasses import fields

from nybble.graph import Graph, Node, Tensor


def assert_equal(left: Graph, right: Graph) -> None:
    """Inputs, nodes, order, outputs, preprocessing and class names agree, tensors by value."""
    assert left.inputs == right.inputs
    assert left.outputs == right.outputs
    assert left.preprocessing == right.preprocessing
    assert left.class_names == right.class_names
    assert [node.name for node in left] == [node.name for node in right]
    for one, other in zip(left, right, strict=True):
        assert_same_node(one, other)
    assert dict(left.values) == dict(right.values)


def assert_same_node(one: Node, other: Node) -> None:
    assert type(one) is type(other)
    for entry in fields(one):
        left, right = getattr(one, entry.name), getattr(other, entry.name)
        if isinstance(left, Tensor):
            assert isinstance(right, Tensor), (one.name, entry.name)
            assert (left.dtype, left.shape, left.raw()) == (right.dtype, right.shape, right.raw())
        else:
            assert left == right, (one.name, entry.name)
