"""Drawn networks: the engine equals the reference in every instruction set, thread count and batch size."""

from __future__ import annotations

import hypothesis.strategies as st
from agreement import assert_agrees
from hypothesis import given
from networks import conv_networks, images, linear_networks, mixed_networks

THREADS = st.sampled_from((1, 2, 3))


@given(st.data(), THREADS)
def test_convolutions(data: st.DataObject, threads: int) -> None:
    graph = data.draw(conv_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads])


@given(st.data(), THREADS)
def test_linear_layers(data: st.DataObject, threads: int) -> None:
    graph = data.draw(linear_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads])


@given(st.data(), THREADS)
def test_networks_of_all_nodes(data: st.DataObject, threads: int) -> None:
    graph = data.draw(mixed_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads])
