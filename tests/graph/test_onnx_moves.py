"""QDQ models that split, pad, cut and resize activations, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import helper
from qdq_networks import INPUT_SCALE, Net, assert_same_codes

from nybble.graph.onnx import OnnxImportError, from_onnx

OUT = 0.05


def split(net: Net, value: str, axis: int, sizes: list[int] | None, count: int) -> list[str]:
    names = [f"part{place}" for place in range(count)]
    inputs = [value] if sizes is None else [value, net.constant(sizes, "int64")]
    more = {"num_outputs": count} if sizes is None and net.opset >= 18 else {}
    net.nodes.append(helper.make_node("Split", inputs, names, name="split", axis=axis, **more))
    return names


def joined(net: Net, value: str) -> str:
    """Channels in three parts, the last first, one read twice."""
    first, second, third = split(net, value, 1, [1, 2, 1], 3)
    return net.node("Concat", third, first, second, first, axis=1)


def even(net: Net, value: str) -> str:
    first, second = split(net, value, -1, None, 2)
    return net.node("Add", first, second)


def padded(net: Net, value: str, sides: list[int], mode: str, axes: list[int] | None = None) -> str:
    inputs = [value, net.constant(sides, "int64")]
    if axes is not None:
        inputs += ["", net.constant(axes, "int64")]
    return net.node("Pad", *inputs, mode=mode)


def resized(net: Net, value: str, size: list[int], grid: str, mode: str = "linear") -> str:
    sizes = net.constant([1, 4, *size], "int64")
    more = {} if mode == "linear" else {"nearest_mode": "floor"}
    return net.node("Resize", value, "", "", sizes, coordinate_transformation_mode=grid, mode=mode, **more)


CASES: dict[str, tuple[int, Callable[[Net, str], str]]] = {
    "split of channels": (17, joined),
    "split into halves": (18, even),
    "reflected": (17, lambda net, x: padded(net, x, [0, 0, 1, 2, 0, 0, 3, 0], "reflect")),
    "edges, by axes": (18, lambda net, x: padded(net, x, [1, 0, 2, 3], "edge", [-1, 2])),
    "cut off and zeros": (17, lambda net, x: net.conv(padded(net, x, [0, 0, -1, 1, 0, 0, 2, -2], "constant"), 6, 4)),
    "cut off": (17, lambda net, x: padded(net, x, [0, 0, -2, 0, 0, 0, 0, -3], "constant")),
    "half pixels": (17, lambda net, x: resized(net, x, [13, 16], "half_pixel")),
    "half pixels of PyTorch": (17, lambda net, x: resized(net, x, [5, 4], "pytorch_half_pixel")),
    "corners": (17, lambda net, x: resized(net, x, [15, 11], "align_corners")),
    "asymmetric": (17, lambda net, x: resized(net, x, [16, 24], "asymmetric")),
}


@pytest.mark.parametrize("case", CASES)
def test_codes_are_those_of_onnx_runtime(case: str) -> None:
    opset, write = CASES[case]
    net = Net(seed=3, batch=1, opset=opset)
    made = write(net, net.input())
    same = "Pad" not in case and any(word in case for word in ("pixel", "corners", "asymmetric", "split of", "reflect"))
    scale = INPUT_SCALE if same else OUT
    # Halves of interpolations go up here, to the even neighbour there.
    most = 0.2 if any(word in case for word in ("pixel", "corners", "asymmetric")) else 0.02
    assert_same_codes(net.model(net.qdq(made, scale)), net.photos(1), scale, most=most, by=1, levels=(False,))


def test_a_pad_that_leaves_nothing_is_refused() -> None:
    net = Net(batch=1)
    value = net.qdq(padded(net, net.input(), [0, 0, -5, 0, 0, 0, -4, 0], "constant"), OUT)
    with pytest.raises(OnnxImportError, match="leave nothing"):
        from_onnx(net.model(value))
