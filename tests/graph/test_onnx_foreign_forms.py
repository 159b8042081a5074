"""Matrix products, shapes, batches and outputs of QDQ models as other tools write them, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper  # noqa: E402 - needs onnx
from qdq_networks import Net, assert_same_codes, imported, in_onnxruntime  # noqa: E402

from nybble.graph.onnx import OnnxImportError, from_onnx, import_onnx  # noqa: E402
from nybble.reference import interpret  # noqa: E402

OUT = 0.05
FEATURES = 96
#: Optimised, ONNX Runtime quantizes what MatMul and some forms of Gemm read once more.
PLAIN = (False,)


def _features(net: Net) -> str:
    return net.node("Flatten", net.input())


def _numbers(net: Net, *shape: int) -> str:
    return net.constant(net.rng.normal(size=shape))


PRODUCTS: dict[str, Callable[[Net, str], str]] = {
    "gemm": lambda net, x: net.node("Gemm", x, net.weight(FEATURES, 10, axis=1), _numbers(net, 10)),
    "transB": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 10), transB=1),
    "alpha": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 10), transB=1, alpha=0.5),
    "beta": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 10), transB=1, beta=2.0),
    "negative alpha": lambda net, x: net.node(
        "Gemm", x, net.weight(FEATURES, 10, axis=1), _numbers(net, 10), alpha=-1.5, beta=-0.5
    ),
    "no bias": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), transB=1),
    "scalar bias": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net), transB=1),
    "bias of one": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 1), transB=1),
    "bias of a row": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 1, 10), transB=1),
    "bias of 1x1": lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 1, 1), transB=1),
    "quantized bias": lambda net, x: net.node(
        "Gemm", x, net.weight(10, FEATURES), net.qdq(_numbers(net, 10), 0.02), transB=1, beta=0.5
    ),
    "matmul": lambda net, x: net.node("MatMul", x, net.weight(FEATURES, 10, axis=1)),
    "matmul of transposed": lambda net, x: net.node(
        "MatMul", x, net.node("Transpose", net.weight(10, FEATURES), perm=[1, 0])
    ),
    "add of (N, 1)": lambda net, x: net.node("Add", _numbers(net, 1, 1), PRODUCTS["matmul"](net, x)),
    "add before": lambda net, x: net.node("Add", _numbers(net, 10), PRODUCTS["matmul"](net, x)),
    "add behind": lambda net, x: net.node("Add", PRODUCTS["matmul"](net, x), _numbers(net, 1, 10)),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_products(product: str) -> None:
    net = Net((6, 4, 4), seed=8)
    value = PRODUCTS[product](net, _features(net))
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(60), OUT, most=0.03, levels=PLAIN)


@pytest.mark.parametrize(
    ("product", "message"),
    [
        (lambda net, x: net.node("Gemm", x, net.weight(6, 10, axis=1), transA=1), "transA=1"),
        (lambda net, x: net.node("MatMul", net.weight(10, 6), x), "its first factor is a constant"),
        (lambda net, x: net.node("Gemm", x, net.weight(10, FEATURES), _numbers(net, 3, 10), transB=1), "its bias has"),
        (lambda net, x: net.node("MatMul", x, _numbers(net, FEATURES, 10)), "its weight is not quantized"),
    ],
    ids=["transA", "constant first", "bias by image", "float weight"],
)
def test_products_that_are_refused(product: Callable[[Net, str], str], message: str) -> None:
    net = Net((6, 4, 4), seed=8)
    with pytest.raises(OnnxImportError, match=message):
        from_onnx(net.model(product(net, _features(net))))


# Shapes


def _shaped(net: Net, value: str, *target: int, **attributes: Any) -> str:
    return net.node("Reshape", value, net.constant(target, np.int64), **attributes)


def _viewed(net: Net, value: str) -> str:
    """What the older exporter of PyTorch makes of ``x.view(x.size(0), -1)``."""
    size = net.node("Gather", net.node("Shape", value), net.constant(0, np.int64), axis=0)
    parts = [net.node("Unsqueeze", part, net.constant([0], np.int64)) for part in (size, net.constant(-1, np.int64))]
    return net.node("Reshape", value, net.node("Concat", *parts, axis=0))


def _layout(net: Net, value: str, shape: Callable[[Net, str], str]) -> str:
    """Keras: rows, columns, channels are what is flattened."""
    return shape(net, net.node("Transpose", value, perm=[0, 2, 3, 1]))


SHAPES: dict[str, Callable[[Net, str], str]] = {
    "flatten": lambda net, x: net.node("Flatten", x),
    "flatten -3": lambda net, x: net.node("Flatten", x, axis=-3),
    "(0, -1)": lambda net, x: _shaped(net, x, 0, -1),
    "(-1, all)": lambda net, x: _shaped(net, x, -1, FEATURES),
    "(-1, all) with allowzero": lambda net, x: _shaped(net, x, -1, FEATURES, allowzero=1),
    "view": _viewed,
    "in two steps": lambda net, x: _shaped(net, _shaped(net, x, 0, 6, 4, 4), 0, -1),
    "transpose and flatten": lambda net, x: _layout(net, x, SHAPES["flatten"]),
    "transpose and reshape": lambda net, x: _layout(net, x, SHAPES["(0, -1)"]),
    "transpose, relu, qdq, flatten": lambda net, x: _layout(
        net, x, lambda net, y: net.node("Flatten", net.qdq(net.node("Relu", y), 0.02))
    ),
    "transpose there and back": lambda net, x: net.node(
        "Flatten", net.node("Transpose", net.node("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
    ),
    "rows and columns": lambda net, x: net.node("Flatten", net.node("Transpose", x, perm=[0, 1, 3, 2])),
    "cast": lambda net, x: net.node("Flatten", net.node("Cast", x, to=TensorProto.FLOAT)),
    "identity": lambda net, x: net.node("Identity", net.node("Flatten", net.node("Identity", x))),
}
BATCHES: dict[str, int | str] = {"dynamic": "N", "one": 1, "two": 2}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: str, batch: str) -> None:
    net = Net((6, 4, 4), seed=9, batch=BATCHES[batch])
    value = net.node("MatMul", SHAPES[shape](net, net.input()), net.weight(FEATURES, 10, axis=1))
    # Of one image or two there are few numbers.
    most = 0.05 if batch == "dynamic" else 0.25
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(40), OUT, most=most, levels=PLAIN)


@pytest.mark.parametrize("batch", ["one", "two"])
@pytest.mark.parametrize("rest", [-1, FEATURES])
def test_the_batch_as_a_number(batch: str, rest: int) -> None:
    net = Net((6, 4, 4), seed=9, batch=BATCHES[batch])
    flat = _shaped(net, net.input(), int(BATCHES[batch]), rest)
    value = net.qdq(net.node("MatMul", flat, net.weight(FEATURES, 10, axis=1)), OUT)
    assert_same_codes(net.model(value), net.photos(), OUT, most=0.1, levels=PLAIN)


IMAGES: dict[str, Callable[[Net, str], str]] = {
    "unsqueeze": lambda net, x: net.node("Unsqueeze", net.node("Flatten", x), net.constant([2, 3], np.int64)),
    "unsqueeze from the end": lambda net, x: net.node(
        "Unsqueeze", net.node("Flatten", x), net.constant([-1, -2], np.int64)
    ),
    "reshape": lambda net, x: _shaped(net, net.node("Flatten", x), -1, 6, 1, 1),
    "squeeze and unsqueeze": lambda net, x: net.node(
        "Unsqueeze", net.node("Squeeze", x, net.constant([2, 3], np.int64)), net.constant([2, 3], np.int64)
    ),
    "squeeze one": lambda net, x: net.node("Squeeze", x, net.constant([-1, -2], np.int64)),
}
LAST: dict[str, Callable[[Net, str], str]] = {
    "mean": lambda net, x: net.node("ReduceMean", x, axes=[1, 2], keepdims=0),
    "mean from the end": lambda net, x: net.node("Flatten", net.node("ReduceMean", x, axes=[-2, -3])),
    "mean and squeeze": lambda net, x: net.node(
        "Squeeze", net.node("ReduceMean", x, axes=[1, 2]), net.constant([1, 2], np.int64)
    ),
    "affine by channel": lambda net, x: net.node(
        "ReduceMean", net.node("Relu", net.node("Mul", x, _numbers(net, 6))), axes=[1, 2], keepdims=0
    ),
    "concat": lambda net, x: net.node("ReduceMean", net.node("Concat", x, x, axis=3), axes=[1, 2], keepdims=0),
    "quantized by channel": lambda net, x: net.node(
        "ReduceMean", net.qdq(x, np.linspace(0.01, 0.02, 6), axis=-1), axes=[1, 2], keepdims=0
    ),
}


@pytest.mark.parametrize("last", LAST)
def test_channels_last_in_the_middle(last: str) -> None:
    net = Net(seed=9)
    value = net.qdq(net.conv(net.input(), 6, 4), 0.02)
    value = LAST[last](net, net.node("Transpose", value, perm=[0, 2, 3, 1]))
    assert_same_codes(net.model(net.qdq(value, 0.011)), net.photos(60), 0.011, most=0.05, levels=PLAIN)


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("is_quantized", [False, True])
def test_probabilities_at_the_end_are_left_out(operator: str, is_quantized: bool) -> None:
    net = Net(seed=9)
    mean = net.node("Flatten", net.qdq(net.node("GlobalAveragePool", net.conv(net.input(), 6, 4)), 0.01))
    logits = net.qdq(net.node("Gemm", mean, net.weight(10, 6), transB=1), 0.02)
    value = net.node(operator, logits)
    model = net.model(net.node("Identity", net.qdq(value, 1 / 255, "u8")) if is_quantized else value)
    made = from_onnx(model)
    assert_same_codes(net.model(logits), net.photos(40), 0.02, most=0.05, levels=PLAIN)
    assert len(made.graph) == len(from_onnx(net.model(logits)).graph)
    assert f"the {operator} at the end was left out" in made.notes[0]
    with pytest.raises(OnnxImportError, match=f"{operator} inside"):
        from_onnx(net.model(net.node("Mul", value, net.constant(2.0))))


def test_outputs_that_nothing_reads() -> None:
    net = Net(seed=9)
    value = net.qdq(net.conv(net.input(), 6, 4), OUT)
    net.nodes.append(helper.make_node("Dropout", [value], ["kept", "mask"], name="dropout"))
    net.nodes.append(helper.make_node("MaxPool", ["kept"], ["most", "places"], name="pool", kernel_shape=[2, 2]))
    assert_same_codes(net.model("most"), net.photos(), OUT)
    with pytest.raises(OnnxImportError, match="pool: MaxPool with several outputs"):
        from_onnx(net.model("most", "places"), output="places")


@pytest.mark.parametrize("image", IMAGES)
def test_images_of_one_pixel(image: str) -> None:
    net = Net((6, 4, 4), seed=9)
    value = IMAGES[image](net, net.node("GlobalMaxPool", net.input()))
    if image == "squeeze one":
        value = net.node("MatMul", value, net.weight(6, 10, axis=1))
    else:
        value = net.conv(value, 10, 6, 1)
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(40), OUT, most=0.05, levels=PLAIN)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (lambda net, x: _shaped(net, x, -1, FEATURES // 2), "reshapes"),
        (lambda net, x: _shaped(net, x, 3, -1), "reshapes"),
        (lambda net, x: _shaped(net, x, 0, 3, -1), "reshapes"),
        (lambda net, x: net.node("Flatten", x, axis=2), "flattens the batch"),
        (lambda net, x: net.node("Transpose", x, perm=[1, 0, 2, 3]), "mixes the batch"),
        (lambda net, x: net.conv(net.node("Transpose", x, perm=[0, 2, 3, 1]), 4, 4), "something else than images"),
    ],
)
def test_shapes_that_are_refused(shape: Callable[[Net, str], str], message: str) -> None:
    net = Net((6, 4, 4), seed=9)
    with pytest.raises(OnnxImportError, match=message):
        from_onnx(net.model(shape(net, net.input())))


# The input


def test_an_input_that_several_quantize_alike() -> None:
    net = Net(seed=9)
    value = net.node("Add", net.conv(net.input(), 6, 4), net.conv(net.input(), 6, 4))
    assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(), OUT, most=0.03)
    value = net.node("Add", net.conv(net.input(), 6, 4), net.conv(net.qdq("input", 0.02, clip=(-8, 7)), 6, 4))
    with pytest.raises(OnnxImportError, match="'input' is quantized more than once"):
        from_onnx(net.model(value))


@pytest.mark.parametrize("is_quantized_first", [False, True])
def test_an_input_with_channels_last(is_quantized_first: bool) -> None:
    net = Net((8, 8, 4), seed=9)
    if is_quantized_first:
        value = net.node("Transpose", net.input(), perm=[0, 3, 1, 2])
    else:
        value = net.qdq(net.node("Transpose", "input", perm=[0, 3, 1, 2]), 1 / 48)
    model, photos = net.model(net.qdq(net.conv(value, 6, 4), OUT)), net.photos()
    wanted = in_onnxruntime(model, photos, is_optimised=False).reshape(len(photos), -1)
    found, made = imported(model, photos.transpose(0, 3, 1, 2))
    assert made.graph.inputs[0].shape == (4, 8, 8)
    assert made.channels_last
    assert np.mean(np.abs(found - wanted) > OUT / 2) < 0.03


def test_an_input_that_is_flattened_in_another_order() -> None:
    net = Net((6, 4, 4), seed=9)
    value = net.qdq(net.node("Transpose", "input", perm=[0, 2, 3, 1]), 1 / 48)
    value = net.node("MatMul", net.node("Flatten", value), net.weight(FEATURES, 10, axis=1))
    made = assert_same_codes(net.model(net.qdq(value, OUT)), net.photos(40), OUT, most=0.05, levels=PLAIN)
    assert made.graph.inputs[0].shape == (6, 4, 4)


def test_an_output_without_a_shape_and_a_name_with_lines(tmp_path: Path) -> None:
    net = Net(seed=9)
    model = net.model(net.qdq(net.conv(net.input(), 6, 4), OUT))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert not model.graph.output[0].type.tensor_type.HasField("shape")
    assert import_onnx(path).graph.outputs
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.op_type, conv.name = "Sin", "one\ntwo"
    del conv.attribute[:], conv.input[1:]
    onnx.save(model, path)
    with pytest.raises(OnnxImportError, match="one two: operator Sin") as caught:
        import_onnx(path)
    assert "\n" not in str(caught.value)


def test_an_input_with_scales_by_channel_is_refused() -> None:
    net = Net()
    with pytest.raises(OnnxImportError, match="a scale for each channel"):
        from_onnx(net.model(net.conv(net.qdq("input", np.linspace(0.01, 0.02, 4)), 6, 4)))


# Outputs


def _of_two() -> tuple[Any, Any, str, str]:
    net = Net(seed=9)
    first = net.qdq(net.node("Relu", net.conv(net.input(), 6, 4)), OUT)
    mean = net.node("Flatten", net.qdq(net.node("GlobalAveragePool", first), 0.017))
    logits = net.node("Gemm", mean, net.weight(10, 6), transB=1)
    # Only the other output needs what cannot be imported.
    other = net.node("Sin", first)
    return net.model(logits, other), net.photos(), logits, other


def test_of_several_outputs_one_is_chosen() -> None:
    model, photos, logits, other = _of_two()
    with pytest.raises(OnnxImportError, match=rf"has 2 outputs \('{logits}', '{other}'\); .*--output NAME"):
        from_onnx(model)
    with pytest.raises(OnnxImportError, match=f"has no output 'none', only '{logits}'"):
        from_onnx(model, output="none")
    made = from_onnx(model, output=logits)
    codes = np.rint(photos * 48).clip(-128, 127).astype(np.int8)
    found = interpret(made.graph, codes)[made.graph.outputs[0]]
    wanted = in_onnxruntime(model, photos, is_optimised=False)
    np.testing.assert_allclose(found, wanted, atol=np.abs(wanted).max() / 30)
    with pytest.raises(OnnxImportError, match="operator Sin is not supported"):
        from_onnx(model, output=other)


def test_an_output_that_is_no_list_of_classes_is_said() -> None:
    net = Net(seed=9)
    made = from_onnx(net.model(net.qdq(net.conv(net.input(), 6, 4), OUT)))
    assert made.notes == [
        f"the output {made.graph.outputs[0]} is ('N', 6, 8, 8), not one number a class: only the Python API can use it"
    ]


def test_what_nothing_reads_is_left_out() -> None:
    net = Net(seed=9)
    value = net.qdq(net.conv(net.input(), 6, 4), OUT)
    net.node("HardSwish", value)
    model = net.model(value)
    model.graph.input.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, ["N", 5]))
    made = from_onnx(model)
    assert len(made.graph.inputs) == 1
    assert any("'unused'" in note for note in made.notes)
