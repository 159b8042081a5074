"""Float ONNX files of unknown origin: one error in one line, no hang, no other file read, memory within bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'nybble[onnx]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - needs onnx
from onnx_files import SHAPE, File  # noqa: E402

from nybble.quantize.errors import SourceError  # noqa: E402
from nybble.quantize.ops import onnx_operators  # noqa: E402
from nybble.quantize.sources.onnx import load_onnx  # noqa: E402


def network() -> File:
    """All kinds of operators: layers, batch norm, clips, pools, sums, joins, shapes that are computed."""
    file = File()
    file.conv(3, 4, strides=[1, 1], pads=[1, 1, 1, 1])
    file.node("BatchNormalization", *(file.drawn(4, low=0.5, high=1) for _ in range(4)), epsilon=1e-3)
    source = file.node("Relu")
    file.conv(4, 4, (1, 1), group=2)
    file.node("Add", source)
    file.node("Clip", file.constant(0.0), file.constant(6.0))
    file.node("Mul", file.drawn(4, 1, 1))
    file.node("Concat", source, axis=1)
    file.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    file.node("Pad", file.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), file.constant(0.0))
    file.node("Slice", *(file.constant([value], np.int64) for value in (0, 1 << 40, 2, 2)))
    file.node("AveragePool", kernel_shape=[2, 2])
    file.node("GlobalAveragePool")
    before = file.last
    file.node("Shape")
    file.node("Gather", file.constant([0], np.int64))
    shape = file.node("Concat", file.constant([-1], np.int64), axis=0)
    file.node("Reshape", before, shape, first=False)
    file.node("Gemm", file.drawn(5, 8), file.drawn(5), transB=1)
    return file


MODEL = network().proto()
CONTENT = MODEL.SerializeToString()


def changed(change: Callable[[Any], object]) -> Any:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    change(model)
    return model


def node(model: Any, op: str) -> Any:
    return next(entry for entry in model.graph.node if entry.op_type == op)


def constant(model: Any, op: str, place: int = 1) -> Any:
    name = node(model, op).input[place]
    return next(entry for entry in model.graph.initializer if entry.name == name)


def put(model: Any, op: str, values: Any, place: int = 1) -> None:
    tensor = constant(model, op, place)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), tensor.name))


def put_attribute(model: Any, op: str, name: str, value: Any) -> None:
    entry = node(model, op)
    kept = [item for item in entry.attribute if item.name != name]
    del entry.attribute[:]
    entry.attribute.extend([*kept, helper.make_attribute(name, value)])


def refused(path: Path, words: str) -> str:
    with pytest.raises(SourceError, match=words) as caught:
        load_onnx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 1000
    return text


def test_the_network_itself_is_read(tmp_path: Path) -> None:
    path = network().save(tmp_path / "network.onnx")
    assert load_onnx(path)(torch.zeros(2, *SHAPE)).shape == (2, 5)


#: What is changed, and a word of what is said about it.
FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "weights of another rank": (lambda m: put(m, "Conv", np.zeros((4, 3), np.float32)), r"must have 3 or 4 dimensions"),
    "weights that do not fit": (lambda m: put(m, "Conv", np.zeros((4, 2, 3, 3), np.float32)), "does not fit"),
    "weights of no size": (lambda m: put(m, "Conv", np.zeros((4, 0, 3, 3), np.float32)), "is empty"),
    "weights with NaN": (lambda m: put(m, "Gemm", np.full((5, 8), np.nan, np.float32)), r"\(Gemm\).* NaN"),
    "biases too many": (lambda m: put(m, "Conv", np.zeros(3, np.float32), 2), "is not that of 4 outputs"),
    "batch norm too short": (lambda m: put(m, "BatchNormalization", np.ones(3, np.float32), 3), "not of 4 channels"),
    "variance negative": (
        lambda m: put(m, "BatchNormalization", np.full(4, -1, np.float32), 4),
        "variance is not positive",
    ),
    "epsilon infinite": (lambda m: put_attribute(m, "BatchNormalization", "epsilon", np.inf), "epsilon is NaN"),
    "bounds of several numbers": (lambda m: put(m, "Clip", np.zeros(3, np.float32)), "must be one number"),
    "bounds NaN": (lambda m: put(m, "Clip", np.float32(np.nan), 2), "is NaN"),
    "factor infinite": (lambda m: put(m, "Mul", np.full((4, 1, 1), np.inf, np.float32)), "NaN or infinity"),
    "groups of none": (lambda m: put_attribute(m, "Conv", "group", 0), "does not fit|group"),
    "stride of 0": (lambda m: put_attribute(m, "Conv", "strides", [0, 0]), "below 1|checker"),
    "dilation huge": (lambda m: put_attribute(m, "Conv", "dilations", [1 << 40, 1 << 40]), "does not fit"),
    "padding huge": (lambda m: put_attribute(m, "Conv", "pads", [1 << 30] * 4), "not one of an image network"),
    "padding huge, stride too": (
        lambda m: (
            put_attribute(m, "Conv", "pads", [1 << 30] * 4),
            put_attribute(m, "Conv", "strides", [1 << 31] * 2),
        ),
        "not one of an image network",
    ),
    "window huge": (lambda m: put_attribute(m, "MaxPool", "kernel_shape", [1 << 40, 1]), "does not fit"),
    "window of one extent": (lambda m: put_attribute(m, "MaxPool", "kernel_shape", [2]), "two extents|checker"),
    "attribute of another type": (lambda m: put_attribute(m, "Conv", "strides", [1.5, 2.0]), "checker refuses"),
    "attribute of text": (lambda m: put_attribute(m, "Concat", "axis", "rows"), "checker refuses"),
    "attribute unknown": (lambda m: put_attribute(m, "Relu", "alpha", 1.0), "checker refuses"),
    "inputs too many": (lambda m: node(m, "Relu").input.append("image"), "checker refuses"),
    "inputs too few": (lambda m: node(m, "Conv").input.__delitem__(slice(1, 3)), "checker refuses"),
    "input left out": (lambda m: node(m, "Conv").input.__setitem__(1, ""), "checker refuses|must be constant"),
    "shape of real numbers": (lambda m: put(m, "Pad", np.zeros(8, np.float32)), "not a list of integers"),
    "sides too many": (lambda m: put(m, "Pad", np.zeros(10, np.int64)), "sides of"),
    "sides huge": (lambda m: put(m, "Pad", np.full(8, 1 << 40)), "not one of an image|cannot be added to the batch"),
    "sides none": (lambda m: put(m, "Pad", np.zeros(0, np.int64)), "sides of|is not a list|is empty"),
    "ends without starts": (lambda m: put(m, "Slice", np.zeros(2, np.int64)), "must be of one length"),
    "gather far off": (lambda m: put(m, "Gather", np.array([99])), "cannot be computed"),
    "domain unknown": (lambda m: setattr(node(m, "Relu"), "domain", "mine"), "of domain 'mine' is not known"),
    "domain of ONNX Runtime": (
        lambda m: (
            setattr(node(m, "Relu"), "domain", "com.microsoft"),
            m.opset_import.append(helper.make_opsetid("com.microsoft", 1)),
        ),
        "operators of com.microsoft are unknown",
    ),
    "operator set of old": (lambda m: setattr(m.opset_import[0], "version", 6), "operator set .*7 to 28"),
    "operator set to come": (lambda m: setattr(m.opset_import[0], "version", 99), "operator set"),
    "image without end": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[2], "dim_value", 1 << 40),
        "impossible shape",
    ),
    "image too large": (
        lambda m: [setattr(m.graph.input[0].type.tensor_type.shape.dim[i], "dim_value", 1 << 16) for i in (2, 3)],
        "not one of an image network",
    ),
    "dims of a constant": (
        lambda m: constant(m, "Conv").dims.__setitem__(0, 1 << 40),
        "impossible shape|checker refuses",
    ),
    "data of a constant": (lambda m: setattr(constant(m, "Conv"), "raw_data", b"1"), "cannot be read|checker"),
    "nodes without end": (
        lambda m: m.graph.node.extend(helper.make_node("Relu", ["image"], [f"r{i}"]) for i in range(1 << 15)),
        "nodes; an image network has 32768 at most",
    ),
    "text for a constant": (
        lambda m: constant(m, "Mul").CopyFrom(helper.make_tensor(constant(m, "Mul").name, 8, [1], [b"text"])),
        "not of a numeric type|no numeric type|cannot be read",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named(name: str, tmp_path: Path) -> None:
    change, words = FAULTS[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(changed(change).SerializeToString())
    refused(path, words)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_damaged_bytes(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refused(tmp_path, bytes(content[: data.draw(st.one_of(st.none(), st.integers(0, len(content))))]))


def read_or_refused(folder: Path, content: bytes) -> None:
    path = folder / "damaged.onnx"
    path.write_bytes(content)
    try:
        load_onnx(path)
    except SourceError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error) and len(str(error)) < 1200


NUMBERS = st.sampled_from([-(1 << 63), -(1 << 31), -3, -2, -1, 0, 1, 2, 3, 5, 11, 1 << 16, 1 << 40, (1 << 63) - 1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(data=st.data())
def test_other_attributes_constants_and_wiring(data: st.DataObject, tmp_path: Path) -> None:
    """Files that ONNX's checker often lets pass: numbers of any size, constants of any shape, values swapped."""
    model = changed(lambda _: None)
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(st.sampled_from(model.graph.node))
        kind = data.draw(st.sampled_from(("attribute", "constant", "wiring", "operator")))
        if kind == "attribute" and entry.attribute:
            item = data.draw(st.sampled_from(entry.attribute))
            if item.type == onnx.AttributeProto.INTS:
                item.ints[:] = data.draw(st.lists(NUMBERS, max_size=6))
            elif item.type == onnx.AttributeProto.INT:
                item.i = data.draw(NUMBERS)
            else:
                item.f = data.draw(st.sampled_from((0.0, -1.0, float("inf"), float("nan"), 1e38)))
        elif kind == "constant":
            tensor = data.draw(st.sampled_from(model.graph.initializer))
            shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
            if data.draw(st.booleans()):
                size = int(np.prod(shape))
                numbers = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
                values = np.array(numbers, np.int64).reshape(shape)
            else:
                values = np.full(shape, data.draw(st.floats(width=16)), data.draw(st.sampled_from(("f2", "f4", "f8"))))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        elif kind == "wiring" and entry.input:
            names = [tensor.name for tensor in model.graph.initializer] + [n.output[0] for n in model.graph.node]
            entry.input[data.draw(st.integers(0, len(entry.input) - 1))] = data.draw(st.sampled_from(["", *names]))
        elif kind == "operator":
            entry.op_type = data.draw(st.sampled_from(sorted(onnx_operators())))
            if data.draw(st.booleans()):
                del entry.attribute[:]
            if data.draw(st.booleans()):
                del entry.input[1:]
    read_or_refused(tmp_path, model.SerializeToString())


# Constants that grow


def growing(op: str) -> File:
    """A few bytes that ask for a lot."""
    file = File()
    file.conv(3, 4)
    source = file.last
    if op == "ConstantOfShape":
        file.node(op, file.constant([1 << 14, 1 << 14], np.int64), first=False)
    elif op == "Expand" or op == "Tile":
        file.node(op, file.constant(np.ones((1, 1))), file.constant([1 << 14, 1 << 14], np.int64), first=False)
    elif op == "Range":
        file.node(op, *(file.constant(value, np.int64) for value in (0, 1 << 40, 1)), first=False)
    elif op == "Gather":
        large = file.constant(np.zeros((1, 4096)))
        file.node(op, large, file.constant(np.zeros(1 << 16), np.int64), first=False, axis=0)
    elif op == "Add":
        file.node(op, file.constant(np.zeros((1 << 13, 1))), file.constant(np.zeros((1, 1 << 13))), first=False)
    elif op == "Where":
        condition = file.constant(np.ones((1 << 13, 1)), np.bool_)
        file.node(op, condition, file.constant(np.zeros((1, 1 << 13))), file.constant(np.zeros(1)), first=False)
    elif op == "Concat":
        part = file.node("ConstantOfShape", file.constant([1 << 21], np.int64), first=False)
        file.node(op, *[part] * 200, first=False, axis=0)
    else:
        # Each node alone is small enough.
        for _ in range(100):
            file.node("ConstantOfShape", file.constant([1 << 21], np.int64), first=False)
            file.node("Neg")
    file.node("Add", source)
    file.node("GlobalAveragePool")
    file.head(4)
    return file


GROWING = ("ConstantOfShape", "Expand", "Tile", "Range", "Gather", "Add", "Where", "Concat")


@pytest.mark.parametrize("op", GROWING)
def test_constants_that_grow(op: str, tmp_path: Path) -> None:
    refused(growing(op).save(tmp_path / "grows.onnx"), rf"\({op}\): .*computes a constant of \d+ elements")


def test_constants_that_are_many(tmp_path: Path) -> None:
    file = growing("many")
    # So that all are needed.
    outputs = [entry.output[0] for entry in file.nodes if entry.op_type == "Neg"]
    total = file.node("Max", *outputs[:8], first=False)
    for start in range(8, len(outputs), 7):
        total = file.node("Max", total, *outputs[start : start + 7], first=False)
    file.node("GlobalAveragePool")
    path = tmp_path / "many.onnx"
    content = file.proto()
    content.graph.output[0].name = total
    path.write_bytes(content.SerializeToString())
    refused(path, "absurd size")


# Files that are not files, and files elsewhere


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "memory", "missing", "empty", "text"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "memory":
        path.symlink_to("/proc/self/mem")
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello world"}[kind])
    refused(path, "not a regular file|cannot be read|is not an ONNX model|has no nodes")


def outside(path: Path, location: str, **more: str) -> Path:
    """The network with the weights of its first layer in another file."""

    def move(model: Any) -> None:
        tensor = constant(model, "Conv")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            tensor.external_data.add(key=key, value=value)

    path.write_bytes(changed(move).SerializeToString())
    return path


WEIGHTS = constant(MODEL, "Conv").raw_data


def test_weights_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1234" + WEIGHTS)
    expected = load_onnx(network().save(tmp_path / "whole.onnx"))(torch.ones(1, *SHAPE))
    for more in ({"offset": "4"}, {"offset": "4", "length": str(len(WEIGHTS))}):
        path = outside(tmp_path / "parts.onnx", "weights", **more)
        torch.testing.assert_close(load_onnx(path)(torch.ones(1, *SHAPE)), expected)


@pytest.mark.parametrize(
    "location", ["../weights", "/etc/passwd", "sub/weights", "..", ".", "", "sub/../weights", "a\\b", "a\0b"]
)
def test_weights_elsewhere(location: str, tmp_path: Path) -> None:
    (tmp_path / "deep" / "sub").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "deep", tmp_path / "deep" / "sub"):
        (folder / "weights").write_bytes(WEIGHTS)
    refused(outside(tmp_path / "deep" / "model.onnx", location), "only files in the model's own folder are read")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "missing", "short"])
def test_weights_in_what_is_no_file(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "weights"
    if kind == "link":
        (tmp_path / "target").write_bytes(WEIGHTS)
        place.symlink_to("target")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "short":
        place.write_bytes(WEIGHTS[:-1])
    words = {"link": "is a symbolic link", "missing": "No such file", "short": "has 431 bytes, not the 432"}
    refused(outside(tmp_path / "model.onnx", "weights"), words.get(kind, "is not a regular file"))


@pytest.mark.parametrize(
    "more",
    [
        {"offset": "-4"},
        {"offset": "1e3"},
        {"offset": "9" * 5000},
        {"offset": "4"},
        {"length": "10"},
        {"length": "-1"},
        {"length": "99999999999"},
        {"offset": "\u0664"},
    ],
)
def test_weights_that_are_not_where_they_should(more: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(WEIGHTS)
    refused(outside(tmp_path / "model.onnx", "weights", **more), "number of bytes|bytes of data|bytes, not the")


def test_constants_of_nodes_lie_in_no_other_file(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "value")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    (tmp_path / "weights").write_bytes(bytes(16))
    file = File()
    file.conv(3, 4)
    source = file.last
    file.node("Add", source, file.node("Constant", first=False, value=tensor), first=False)
    file.node("GlobalAveragePool")
    refused(file.save(tmp_path / "model.onnx"), "'value' in another file; save it as one file")


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A process that refuses all of them grows by less than 200 MiB."""
    paths = [growing(op).save(tmp_path / f"{op}.onnx") for op in (*GROWING, "many")]
    code = (
        "import resource, sys\nfrom pathlib import Path\nimport torch\n"
        "from nybble.quantize.sources.onnx import load_onnx\nfrom nybble.quantize.errors import SourceError\n"
        "import onnx.reference, nybble.graph.onnx\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        load_onnx(Path(path))\n    except SourceError:\n        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True, timeout=100
    )
    assert int(found.stdout) < 200 << 10
