"""Folding drawn networks: constants, batch norm, limits and padding in any order give the same answers."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nybble.graph import Padding, Pair
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.errors import CaptureError
from nybble.quantize.ir import vocabulary
from nybble.quantize.ir.float_network import INPUT, Affine, FloatNetwork, Norm, Op, Rectifier
from nybble.quantize.ir.fold import fold
from nybble.quantize.ir.vocabulary import Translation, Unsupported
from nybble.quantize.prepare.prepare import prepare_captured


class Drawn:
    """A network under construction; any of its values may be read again."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
        self.network = FloatNetwork(
            (draw(st.sampled_from((1, 2, 4))), draw(st.integers(3, 6)), draw(st.integers(3, 6)))
        )
        self.values = [Translation(INPUT, self.network.input_shape)]

    def tensor(self, *shape: int, low: float = -1.5) -> Tensor:
        return torch.rand(shape, generator=self.random) * (1.5 - low) + low

    def source(self) -> Translation:
        """Mostly the last value, so that what can be joined follows each other."""
        return self.values[-1] if self.draw(st.integers(0, 3)) else self.draw(st.sampled_from(self.values))

    def put(self, result: vocabulary.Result) -> None:
        assert not isinstance(result, Tensor | vocabulary.Stack)

        def add(op: Op) -> str:
            op.name = op.place = f"v{len(self.network.ops)}"
            self.network.ops.append(op)
            return op.name

        self.values.append(vocabulary.settled(result, add))


def _conv(net: Drawn, x: Translation) -> vocabulary.Result:
    channels = x.extents[0]
    groups = net.draw(st.sampled_from([count for count in (1, 2, channels) if channels % count == 0]))
    window = net.draw(st.integers(1, 3))
    bias = net.tensor(2 * groups) if net.draw(st.booleans()) else None
    sides = Padding(*(net.draw(st.integers(0, 1)) for _ in range(4)))
    weight = net.tensor(2 * groups, channels // groups, window, window)
    return vocabulary.conv(x, weight, bias, padding=sides, groups=groups)


def _constants(net: Drawn, x: Translation) -> vocabulary.Result:
    count = x.extents[0]
    by_channel = net.draw(st.booleans())
    gain = net.tensor(count, 1, 1, low=net.draw(st.sampled_from((-1.5, 0.2)))) if by_channel else net.tensor(1)
    offset = net.draw(st.sampled_from((0.0, 1.0))) * (net.tensor(count, 1, 1) if by_channel else net.tensor(1))
    return vocabulary.affine(x, gain, offset)


def _norm(net: Drawn, x: Translation) -> vocabulary.Result:
    gain, offset, mean = (net.tensor(x.extents[0]) for _ in range(3))
    return vocabulary.batch_norm(x, gain, offset, mean, net.tensor(x.extents[0], low=0.3), 1e-3)


def _limit(net: Drawn, x: Translation) -> vocabulary.Result:
    return vocabulary.clip(x, *net.draw(st.sampled_from(((0.0, None), (0.0, 0.7), (None, 0.7), (-1.0, 0.7)))))


def _pool(net: Drawn, x: Translation) -> vocabulary.Result:
    window, stride = Pair(2, 3), Pair(1, net.draw(st.integers(1, 2)))
    sides = Padding(*(net.draw(st.integers(0, 1)) for _ in range(4)))
    if net.draw(st.booleans()):
        return vocabulary.max_pool(x, window, stride, sides)
    return vocabulary.average_pool(x, window, stride, sides, count_include_pad=net.draw(st.booleans()))


def _pad(net: Drawn, x: Translation) -> vocabulary.Result:
    channels = net.draw(st.sampled_from(((0, 0), (0, 0), (1, 2))))
    return vocabulary.pad(x, Padding(*(net.draw(st.integers(0, 1)) for _ in range(4))), channels)


def _joined(net: Drawn, x: Translation) -> vocabulary.Result:
    others = [value for value in net.values if value.extents[1:] == x.extents[1:]]
    return vocabulary.concat([x, net.draw(st.sampled_from(others))], 1)


def _added(net: Drawn, x: Translation) -> vocabulary.Result:
    other = net.draw(st.sampled_from([value for value in net.values if value.extents == x.extents]))
    return vocabulary.add(x, other, net.draw(st.sampled_from((1.0, -1.0, 0.3))))


def _picked(net: Drawn, x: Translation) -> vocabulary.Result:
    order = net.draw(st.permutations(range(x.extents[0])))
    return vocabulary.pick(x, 1, order[: net.draw(st.integers(1, len(order)))])


def _averaged(net: Drawn, x: Translation) -> vocabulary.Result:
    return vocabulary.mean(x, [net.draw(st.sampled_from((2, 3)))], keepdim=True)


PARTS = (_conv, _conv, _conv, _constants, _constants, _norm, _limit, _pool, _pad, _joined, _added, _picked, _averaged)


def end(net: Drawn) -> None:
    """Logits of the last value, straight or after constants of the vector."""
    x = net.values[-1]
    net.put(vocabulary.reshape(x, (math.prod(x.extents),)))
    weight = net.tensor(3, math.prod(x.extents))
    net.put(vocabulary.dense(net.values[-1], weight))
    for part in net.draw(
        st.lists(st.sampled_from((_vector_constants, _vector_norm, _limit, _vector_layer)), max_size=4)
    ):
        net.put(part(net, net.values[-1]))


def _vector_constants(net: Drawn, x: Translation) -> vocabulary.Result:
    return vocabulary.affine(x, net.tensor(3), net.tensor(1))


def _vector_norm(net: Drawn, x: Translation) -> vocabulary.Result:
    return _norm(net, x)


def _vector_layer(net: Drawn, x: Translation) -> vocabulary.Result:
    return vocabulary.dense(x, net.tensor(3, 3), net.tensor(3))


@st.composite
def networks(draw: st.DrawFn) -> FloatNetwork:
    """Up to nine operations on a small image, those that nothing needs left out."""
    net = Drawn(draw)
    for part in draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=9)):
        try:
            net.put(part(net, net.source()))
        except Unsupported:
            continue
    end(net)
    needed = {net.network.output}
    for op in reversed(net.network.ops):
        needed.update(op.inputs if op.name in needed else ())
    net.network.ops = [op for op in net.network.ops if op.name in needed]
    return net.network


@given(networks())
def test_folded_networks_give_the_same_answers(network: FloatNetwork) -> None:
    x = torch.randn(2, *network.input_shape, generator=torch.Generator().manual_seed(0))
    expected = network(x).flatten(1)
    tolerance = 1e-4 * max(1.0, float(expected.abs().max()))
    try:
        folded = fold(network)
    except CaptureError as error:
        # Only a limit may stand where integers cannot have it.
        assert "ReLU" in str(error) or "clips to" in str(error)
        return
    torch.testing.assert_close(folded(x).flatten(1), expected, rtol=1e-4, atol=tolerance)
    assert not any(isinstance(op, Affine | Norm) for op in folded)
    assert all(op.minimum == 0 for op in folded if isinstance(op, Rectifier))
    torch.testing.assert_close(network(x).flatten(1), expected)  # It is left as it was.
    prepared = prepare_captured(folded, QuantizeConfig())
    torch.testing.assert_close(prepared(x), expected, rtol=1e-4, atol=tolerance)
