"""Drawn networks: the engine equals the reference in every instruction set, thread count and batch size."""

from __future__ import annotations

import hypothesis.strategies as st
from agreement import assert_agrees
from hypothesis import given
from networks import (
    conv_networks,
    gated_networks,
    images,
    joined_networks,
    linear_networks,
    mixed_networks,
    pool_networks,
    stacked_networks,
)

THREADS = st.sampled_from((1, 2, 3))
TOGETHER = st.sampled_from((1, 2, 3, 8))


@given(st.data(), THREADS, TOGETHER)
def test_convolutions(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(conv_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_linear_layers(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(linear_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_networks_of_all_nodes(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(mixed_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_stacks_of_residual_blocks(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(stacked_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_pools_of_any_size(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(pool_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_joined_channels(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(joined_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)


@given(st.data(), THREADS, TOGETHER)
def test_gates(data: st.DataObject, threads: int, together: int) -> None:
    graph = data.draw(gated_networks())
    assert_agrees(graph, data.draw(images(graph)), [threads], together=together)
