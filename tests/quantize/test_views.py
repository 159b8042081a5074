"""Views of values, and constants broadcast over them: what the vocabulary takes is what torch computes."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.float_network import INPUT, FloatNetwork, Op
from nybble.quantize.ir.vocabulary import Translation, Unsupported

COUNT = 2


class Built:
    """A float network under construction, beside the same in torch."""

    def __init__(self, extents: tuple[int, int, int], x: Tensor) -> None:
        self.network = FloatNetwork(extents)
        self.x, self.value, self.expected = x, Translation(INPUT, extents), x

    def put(self, result: vocabulary.Result, expected: Tensor) -> None:
        assert isinstance(result, Op | vocabulary.Made | Translation)
        self.value, self.expected = vocabulary.settled(result, self._add), expected
        assert self.value.shape == expected.shape[1:]

    def _add(self, op: Op) -> str:
        op.name = f"v{len(self.network.ops)}"
        self.network.ops.append(op)
        return op.name


def _reshaped(built: Built, draw: st.DrawFn) -> None:
    shape = built.value.shape
    first = draw(st.integers(0, len(shape) - 1))
    last = draw(st.integers(first, len(shape) - 1))
    wanted = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
    if draw(st.booleans()):
        # Or any other shape of the same elements.
        total = math.prod(shape)
        divisors = [size for size in range(1, total + 1) if total % size == 0]
        left = draw(st.sampled_from(divisors))
        wanted = (left, total // left)
    built.put(vocabulary.reshape(built.value, wanted), built.expected.reshape(COUNT, *wanted))


def _permuted(built: Built, draw: st.DrawFn) -> None:
    order = draw(st.permutations(range(1, built.expected.dim())))
    built.put(vocabulary.permute(built.value, [0, *order]), built.expected.permute(0, *order))


def _squeezed(built: Built, draw: st.DrawFn) -> None:
    axis = draw(st.integers(1, built.expected.dim() - 1))
    built.put(vocabulary.squeeze(built.value, [axis]), built.expected.squeeze(axis))


def _unsqueezed(built: Built, draw: st.DrawFn) -> None:
    axis = draw(st.integers(1, built.expected.dim()))
    built.put(vocabulary.unsqueeze(built.value, axis), built.expected.unsqueeze(axis))


def _averaged(built: Built, draw: st.DrawFn) -> None:
    axes = draw(st.lists(st.integers(1, built.expected.dim() - 1), min_size=1, max_size=2, unique=True))
    keep = draw(st.booleans())
    build, function = draw(
        st.sampled_from(
            (
                (vocabulary.mean, torch.mean),
                (vocabulary.total, torch.sum),
                (vocabulary.largest, torch.amax),
            )
        )
    )
    if not keep and len(axes) == built.expected.dim() - 1:
        return
    built.put(build(built.value, axes, keep), function(built.expected, axes, keepdim=keep))


def _scaled(built: Built, draw: st.DrawFn) -> None:
    shape = [draw(st.sampled_from((1, extent))) for extent in built.value.shape]
    shape = [1, *shape] if draw(st.booleans()) else shape[draw(st.integers(0, len(shape) - 1)) :]
    constant = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))
    built.put(vocabulary.multiply(constant, built.value), constant * built.expected)


def _picked(built: Built, draw: st.DrawFn) -> None:
    channels = draw(st.lists(st.integers(0, built.value.shape[0] - 1), min_size=1, max_size=3))
    built.put(vocabulary.pick(built.value, 1, channels), built.expected[:, channels])


def _doubled(built: Built, draw: st.DrawFn) -> None:
    axis = draw(st.integers(1, built.expected.dim() - 1))
    joined = torch.cat([built.expected, built.expected], axis)
    result = vocabulary.concat([built.value, built.value], axis)
    if isinstance(result, vocabulary.Stack):
        if built.expected.dim() > 2:
            built.put(vocabulary.total(result, [axis], False), joined.sum(axis))
        return
    built.put(result, joined)


STEPS = (_reshaped, _permuted, _squeezed, _unsqueezed, _averaged, _scaled, _picked, _doubled)


@given(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), st.data())
def test_drawn_views(extents: tuple[int, int, int], data: st.DataObject) -> None:
    x = torch.randn(COUNT, *extents, generator=torch.Generator().manual_seed(0))
    built = Built(extents, x)
    for step in data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6)):
        try:
            step(built, data.draw)
        except Unsupported as error:
            assert "\n" not in str(error)
    size = built.value.shape[-1]
    weight = torch.randn(4, size, generator=torch.Generator().manual_seed(1))
    try:
        built.put(vocabulary.dense(built.value, weight), functional.linear(built.expected, weight))
    except Unsupported:
        if not built.value.is_natural or not built.network.ops:
            return
    if built.network.ops and built.value.is_natural:
        found = built.network(x).flatten(1)
        torch.testing.assert_close(found, built.expected.flatten(1), rtol=1e-4, atol=1e-4)
