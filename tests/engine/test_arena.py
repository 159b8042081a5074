"""Memory: blocks that live together never overlap, and nothing is wasted where nothing needs to be."""

from __future__ import annotations

import hypothesis.strategies as st
from agreement import ISAS
from hypothesis import given
from networks import conv_networks, mixed_networks, stacked_networks

from nybble.backends.cpu.kernel import LIST_GROUPS
from nybble.backends.cpu.plan import Plan, lists_of
from nybble.backends.cpu.planner import make_plan
from nybble.lower.arena import ALIGNMENT, Lifetime, aligned, place

LIFETIMES = st.builds(
    lambda nbytes, first, length: Lifetime(nbytes, first, first + length),
    st.one_of(st.integers(0, 300), st.integers(1, 1 << 24)),
    st.integers(-1, 12),
    st.integers(0, 6),
)


def check(lifetimes: list[Lifetime], offsets: list[int], total: int) -> None:
    ends = [offset + aligned(life.nbytes) for offset, life in zip(offsets, lifetimes, strict=True)]
    assert all(offset >= 0 and offset % ALIGNMENT == 0 for offset in offsets)
    assert total == max(ends, default=0)
    for i, one in enumerate(lifetimes):
        for j, other in enumerate(lifetimes[:i]):
            if one.overlaps(other) and min(one.nbytes, other.nbytes):
                assert ends[i] <= offsets[j] or ends[j] <= offsets[i], (i, j)


@given(st.lists(LIFETIMES, max_size=25))
def test_blocks_that_live_together_lie_apart(lifetimes: list[Lifetime]) -> None:
    offsets, total = place(lifetimes)
    check(lifetimes, offsets, total)
    # No more than all of them, no less than those of any moment.
    assert total <= sum(aligned(life.nbytes) for life in lifetimes)
    for moment in range(-1, 19):
        assert total >= sum(aligned(life.nbytes) for life in lifetimes if life.first <= moment <= life.last)
    assert place(lifetimes) == (offsets, total)


def test_lifetimes_overlap_where_they_share_a_step() -> None:
    assert Lifetime(1, 0, 2).overlaps(Lifetime(1, 2, 3))
    assert Lifetime(1, 2, 3).overlaps(Lifetime(1, 0, 2))
    assert not Lifetime(1, 0, 1).overlaps(Lifetime(1, 2, 3))
    assert place([Lifetime(100, 0, 1), Lifetime(100, 2, 3)]) == ([0, 0], 128)
    assert place([]) == ([], 0)


@given(st.one_of(mixed_networks(), stacked_networks(), conv_networks()), st.sampled_from(ISAS))
def test_a_plan_keeps_what_a_step_reads(graph: object, isa: str) -> None:
    """A value or its lists live from the step that writes them to the last that reads them, the result to the end."""
    plan: Plan = make_plan(graph, isa)  # type: ignore[arg-type]
    slots = list(plan.slots.values())
    check([Lifetime(slot.nbytes, slot.first, slot.last) for slot in slots], [s.offset for s in slots], plan.arena_bytes)
    for position, step in enumerate(plan.steps):
        assert plan.slots[step.output].first == position
        kernel = plan.kernels.get(step.output)
        group = LIST_GROUPS.get(kernel.method) if kernel is not None else None
        read = {step.source if group is None else lists_of(step.source, group)}
        if step.shortcut is not None:
            read.add(step.shortcut.name)
        for name in read:
            assert plan.slots[name].first < position <= plan.slots[name].last
    assert plan.slots[plan.graph.outputs[0]].last == len(plan.steps)
