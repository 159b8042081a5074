"""Each kind of malformed directory: one ModelFormatError that names file and line."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nybble.graph import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    DType,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    ModelFormatError,
    Padding,
    Pair,
    Preprocessing,
    Quantize,
    ReLU,
    Scale,
    Tensor,
    read_graph,
    write_graph,
)
from nybble.graph.folder import MAX_TEXT
from nybble.synthetic import bottleneck_resnet


def every_type() -> Graph:
    """A graph with a root of type Graph and one node of each type."""
    random = np.random.default_rng(5)
    window = {"kernel_size": Pair(2, 3), "stride": Pair(1, 1), "padding": Padding(1, 0, 0, 1)}
    nodes = [
        Conv2d(
            name="conv",
            inputs=("image",),
            input_type=DType.U8,
            weight=Tensor.from_array(DType.S4, random.integers(-8, 8, (4, 1, 3, 3))),
            bias=Tensor.from_array(DType.S16, random.integers(-99, 99, 4)),
            padding=Padding(1, 1, 1, 1),
            groups=2,
        ),
        ReLU(name="relu", inputs=("conv",), maximum=600),
        Add(name="add", inputs=("conv", "relu")),
        Quantize(
            name="quantize",
            inputs=("add",),
            input_type=DType.S32,
            output_type=DType.S4,
            factor=Tensor.from_array(DType.U32, np.array([1, 2, 3, 70000])),
            shift=9,
        ),
        MaxPool2d(name="max", inputs=("quantize",), input_type=DType.S4, **window),
        AvgPool2d(name="average", inputs=("max",), input_type=DType.S4, **window),
        Concat(name="concat", inputs=("average", "average"), input_type=DType.S4),
        Linear(
            name="linear",
            inputs=("concat",),
            input_type=DType.S4,
            weight=Tensor.from_array(DType.S8, random.integers(-99, 99, (3, 8 * 6 * 3))),
        ),
        Scale(name="scale", inputs=("linear",), out_scale=Tensor.from_array(DType.F32, np.array([1.0, 2.0, 3.0]))),
    ]
    return Graph(
        [Input(name="image", dtype=DType.U8, shape=(2, 6, 5))], nodes, ["scale", "max"], class_names=["a", "b", "c"]
    )


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_graph(every_type(), folder / "graph")
    write_graph(bottleneck_resnet(blocks=(1, 1, 1, 2), width=2, image=32, classes=3), folder / "resnet")
    image = Input(name="x", dtype=DType.U8, shape=(3, 8, 8))
    factor = Tensor.from_array(DType.U16, np.array([1, 2, 3]))
    q = Quantize(name="q", inputs=("x",), input_type=DType.U8, output_type=DType.U4, factor=factor, shift=4)
    photo = Preprocessing(resize=8, crop=(8, 8), input_type=DType.U8)
    write_graph(Graph([image], [q], ["q"], preprocessing=photo), folder / "photo")
    return folder


@pytest.fixture
def copy(originals: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(which: str) -> Path:
        shutil.copytree(originals / which / "model", tmp_path / which / "model")
        return tmp_path / which / "model"

    return make


def assert_refused(model: Path, place: str, message: str) -> None:
    with pytest.raises(ModelFormatError) as caught:
        read_graph(model.parent)
    text = str(caught.value)
    assert text.startswith(f"{model / place}: "), text
    assert re.search(message, text), text


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode().replace("\r\n", "\n")
    assert old in text, (path, old, text)
    path.write_bytes(text.replace(old, new, 1).replace("\n", "\r\n").encode())


CONV = "layer1_0_conv1"

# directory, file, old text, new text, the file (and line) that is named, what is said
EDITS = [
    # Types and keys
    ("resnet", CONV, "Conv2d", "Conv3d", f"{CONV}:1", "must be of type Conv2d, found 'Conv3d'"),
    ("graph", "conv", "Conv2d", "Conv3d", "conv:1", r"unknown layer type 'Conv3d' \(known: Add, AvgPool2d,"),
    ("graph", "conv", "groups=2", "groups=2\ncolour=red", "conv:10", "unknown key 'colour' for Conv2d"),
    ("graph", "conv", "groups=2", "groups=2\ngroups=2", "conv:10", r"groups is given twice \(first in line 9\)"),
    ("graph", "conv", "groups=2\n", "", "conv:1", "Conv2d lacks the key groups"),
    ("graph", "relu", "inplace=True\n", "", "relu:1", "ReLU lacks the key inplace"),
    ("resnet", "model", "compute_mode=s8f32\n", "", "model:1", "lacks the key compute_mode"),
    ("resnet", "model", "ResNetQuantized", "ResNet", "model:1", "root must be of type ResNetQuantized or Graph"),
    ("resnet", "model", "s8f32", "s8s32", "model:2", "the output must be f32"),
    ("resnet", "layer1", "children_count=1\n", "", "layer1:1", "Sequential lacks the key children_count"),
    ("resnet", "layer1", "children_count=1", "children_count=1\nname=x", "layer1:3", "unknown key 'name'"),
    ("resnet", "layer1_0", "stride=1", "stride=1\npad=1", "layer1_0:3", "unknown key 'pad'"),
    # Numbers
    ("graph", "conv", "groups=2", "groups=2.0", "conv:9", "groups must be an integer"),
    ("graph", "conv", "groups=2", "groups=0", "conv:9", "groups must be in 1.."),
    ("graph", "conv", "groups=2", "groups=-2", "conv:9", "groups must be in 1.."),
    ("graph", "conv", "groups=2", "groups=", "conv:9", "groups must be an integer"),
    ("graph", "conv", "groups=2", "groups=99999999999999999999", "conv:9", "groups must be an integer"),
    ("graph", "conv", "stride=2:1 1", "stride=2:1", "conv:6", "announces 2 values"),
    ("graph", "conv", "padding=2:1 1", "padding=3:1 1 1", "conv:7", "one, two or four"),
    ("graph", "quantize", "shift_bits=9", "shift_bits=32", "quantize:4", "must be in 0..31"),
    ("graph", "relu", "maximum=600", "maximum=2147483648", "relu:4", "must be in 0..2147483647"),
    ("graph", "relu", "inplace=True", "inplace=1", "relu:3", "must be True or False"),
    ("resnet", "layer1", "count=1", "count=0", "layer1:2", "children_count must be in 1.."),
    ("resnet", "layer1", "count=1", "count=999999999", "layer1:2", "children_count must be in 1.."),
    ("resnet", "layer1", "count=1", "count=9999", "layer1_1", "is missing"),
    # Derived values
    ("graph", "conv", "in_channels=2", "in_channels=3", "conv:3", "in_channels says 3, but must be .* 2"),
    ("graph", "conv", "out_channels=4", "out_channels=5", "conv:4", "out_channels says 5"),
    ("graph", "conv", "kernel_size=2:3 3", "kernel_size=2:3 1", "conv:5", "kernel_size says 3 1.* 3 3"),
    ("graph", "conv", "u8s4s32", "u8s8s32", "conv:2", "compute_mode says s8, but must be the weight's type s4"),
    ("graph", "conv", "u8s4s32", "u8s4u31", "conv:2", "compute_mode says u31"),
    ("graph", "linear", "out_features=3", "out_features=4", "linear:4", "out_features says 4"),
    ("graph", "linear", "in_features=144", "in_features=12", "linear:3", "in_features says 12"),
    ("graph", "quantize", "max_requant=70000", "max_requant=7", "quantize:5", "max_requant says 7.* 70000"),
    ("graph", "quantize", "output_bits=3", "output_bits=4", "quantize:3", "output_bits=4 does not go with .* s4"),
    ("graph", "quantize", "u32s4", "u16s4", "quantize:2", "compute_mode says u16"),
    ("graph", "quantize", "s32u32s4", "s32u32f32", "quantize:3", "does not go with the output type f32"),
    ("graph", "scale", "s32f32f32", "u31f32f32", "scale:2", "declared to read u31, but linear is s32"),
    ("graph", "add", "s32u31s32", "s32s32u31", "add:2", "compute_mode says u31"),
    ("graph", "add", "s32u31s32", "u31u31s32", "add:2", "declared to read u31, but conv is s32"),
    ("resnet", "layer2_0", "stride=2", "stride=1", "layer2_0:2", "stride says 1, but its convolutions take 2 x 2"),
    ("resnet", "layer4_1", "downsample_layer=True", "downsample_layer=False", "layer4_1:3", "is not supported"),
    ("graph", "max", "return_indices=False", "return_indices=True", "max:7", "return_indices=True is not supported"),
    # Types and shapes that clash
    ("graph", "conv", "u8s4s32", "u4s4s32", "conv:2", "declared to read u4, but image is u8"),
    ("graph", "relu", "s32u31", "u31u31", "relu:2", "declared to read u31, but conv is s32"),
    ("graph", "relu", "s32u31", "s32s32", "relu:2", "compute_mode says s32"),
    ("graph", "max", "s4s4", "s4u4", "max:2", "compute_mode says u4"),
    ("graph", "model", "image=u8,3:2 6 5", "image=u8,3:4 6 5", "conv:12", "takes 2 channels, but image has 4"),
    ("graph", "model", "image=u8,3:2 6 5", "image=s32,3:2 6 5", "model:2", "an input cannot be s32"),
    ("graph", "model", "image=u8,3:2 6 5", "image=u8,2:2 6", "model:2", "is not one or three extents"),
    ("graph", "model", "image=u8,3:2 6 5", "image=u8,3:2 6 99999", "model:2", "is not one or three extents"),
    ("graph", "model", "image=u8,3:2 6 5", "image=u8,3:2 6", "model:2", "announces 3 values"),
    ("graph", "model", "image=u8,3:2 6 5", "image=u8,3:2 6 6", "linear:5", "takes 144 features, but concat has"),
    ("graph", "average", "padding=4:1 0 0 1", "padding=4:9 0 0 1", "average:5", "nothing but padding"),
    ("graph", "average", "kernel_size=2:2 3", "kernel_size=2:20 3", "average:3", "does not fit"),
    # Structure
    ("graph", "model", "node.relu=1:conv", "node.relu=1:max", "model:4", "defined only later"),
    ("graph", "model", "node.relu=1:conv", "node.relu=1:relu", "model:4", "defined only later"),
    ("graph", "model", "node.relu=1:conv", "node.relu=1:nobody", "model:4", "'nobody', which is not defined"),
    ("graph", "model", "node.relu=1:conv", "node.relu=2:conv conv", "model:4", "reads 1 value"),
    ("graph", "model", "node.relu=1:conv\n", "", "model:4", "'relu', which is not defined"),
    ("graph", "model", "node.relu=1:conv", "node.relu=0:", "model:4", "reads 1 value"),
    ("graph", "model", "node.relu", "node.absent", "absent", "is missing"),
    ("graph", "model", "node.relu", "node...relu", "model:4", "cannot name a node"),
    ("graph", "model", "node.relu", "node.npdata", "model:4", "cannot name a node"),
    ("graph", "model", "node.relu", "node", "model:4", "unknown key 'node'"),
    ("graph", "model", "node.relu", "knot.relu", "model:4", "unknown key 'knot.relu'"),
    ("graph", "model", "outputs=2:scale max\n", "", "model:1", "Graph lacks the key outputs"),
    ("graph", "model", "outputs=2:scale max", "outputs=1:nobody", "model:12", "output 'nobody' is not defined"),
    ("graph", "model", "outputs=2:scale max", "outputs=0:", "model:12", "has no output"),
    ("graph", "model", "input.image", "input.conv", "model:2", "defined twice"),
    ("resnet", "layer1", "Sequential\nchildren_count=1", "ResNetQuantized\ncompute_mode=s8f32", "layer1:1", "a cycle"),
    (
        "resnet",
        "layer1_0_downsample",
        "Sequential\nchildren_count=3",
        "Graph\noutputs=1:x",
        "layer1_0_downsample:1",
        "a cycle",
    ),
    (
        "graph",
        "relu",
        "ReLU\ncompute_mode=s32u31\ninplace=True\nmaximum=600",
        "Sequential\nchildren_count=1",
        "relu:1",
        "unknown layer type 'Sequential'",
    ),
    ("graph", "concat", "s4s4", "s4u4", "concat:2", "compute_mode says u4, but must be the inputs' type s4"),
    ("graph", "concat", "s4s4", "u4u4", "concat:2", "declared to join u4, but average is s4"),
    ("graph", "model", "concat=2:average average", "concat=1:average", "model:9", "reads 2 or more value"),
    ("resnet", "layer4_1_downsample", "Quantize", "Concat", "layer4_1_downsample:1", "no place in a container"),
    ("resnet", "layer4_1_downsample", "Quantize", "Add", "layer4_1_downsample:1", "no place in a container"),
    # Tensors and paths
    ("graph", "conv", "weight=s4,4:4 1 3 3", "weight=s4,4:4 1 3 5", "conv:5", "kernel_size says"),
    ("graph", "conv", "bias=s16,1:4", "bias=s16,1:5", "conv:10", "bias says 5"),
    ("graph", "conv", "bias=s16,1:4", "bias=s8,1:4", "conv:10", "bias must be s16 or s32, found s8"),
    ("graph", "conv", "bias=s16,1:4", "bias=s32,1:4", "conv:11", "has 8 bytes, but s32 of shape 4 takes 16"),
    ("graph", "conv", "!model/npdata/conv.bias\n", "", "conv:10", "followed by a line !path"),
    ("graph", "conv", "groups=2", "groups=2\n!model/x", "conv:10", "groups is not a tensor"),
    ("graph", "quantize", "u32,4:1 4 1 1", "u32,4:4 1 1 1", "quantize:6", "shape 1 C 1 1"),
    ("graph", "quantize", "u32,4:1 4 1 1", "u32,1:4", "quantize:6", "must have 4 dimensions"),
    ("graph", "linear", "s8,2:3 144", "s8,2:300000 120000", "linear:5", "at most 268435456 elements"),
    ("graph", "scale", "f32,1:3", "f16,1:3", "scale:3", "must be DTYPE,NDIMS"),
    *(
        ("graph", "conv", "!model/npdata/conv.bias", f"!{path}", "conv:11", message)
        for path, message in (
            ("model/npdata/nobody", "model/npdata/nobody is missing"),
            ("model/../../secret", "must start with model/ and stay there"),
            ("../secret", "must start with model/ and stay there"),
            ("/etc/passwd", "must start with model/ and stay there"),
            ("npdata/conv.bias", "must start with model/ and stay there"),
            ("model", "must start with model/ and stay there"),
            ("model/", "must start with model/ and stay there"),
            ("model//npdata/conv.bias", "must start with model/ and stay there"),
            ("", "must start with model/ and stay there"),
            ("model/npdata", "is not a regular file"),
            ("model/conv/x", "cannot be read: Not a directory"),
            ("model/a\0b", "must start with model/"),
            ("model/é", "must start with model/ and stay there, in ASCII"),
            ("model/" + "x" * 5000, "cannot be read: File name too long"),
        )
    ),
    # Optional files
    ("graph", "format_version", "version=1", "version=4", "format_version:2", "version 4 is newer than 3"),
    ("graph", "format_version", "version=1", "version=one", "format_version:2", "must be an integer"),
    ("graph", "format_version", "FormatVersion", "Version", "format_version:1", "must be of type FormatVersion"),
    ("graph", "class_names", "b\n", "\n", "class_names:2", "class name is empty"),
    ("graph", "class_names", "b\n", "", "class_names", "2 class names, but the output has 3 channels"),
    ("photo", "preprocessing", "Preprocessing", "Recipe", "preprocessing:1", "must be of type Preprocessing"),
    ("photo", "preprocessing", "resize=8", "resize=7", "preprocessing:3", "not within the resized short side 7"),
    (
        "photo",
        "preprocessing",
        "crop=2:8 8",
        "crop=2:8 7",
        "preprocessing:7",
        "preprocessing makes u8 .*, but the graph",
    ),
    ("photo", "preprocessing", "bilinear", "cubic", "preprocessing:4", "unknown interpolation 'cubic'"),
    ("photo", "preprocessing", "mean=3:0.485", "mean=3:nan", "preprocessing:5", "must be a finite number"),
    ("photo", "preprocessing", "mean=3:0.485 ", "mean=2:", "preprocessing:5", "2 channels"),
    ("photo", "preprocessing", "std=3:0.229", "std=3:0", "preprocessing:6", "is not positive"),
    ("photo", "preprocessing", "input_type=u8", "input_type=u9", "preprocessing:7", "unknown input_type"),
    ("photo", "preprocessing", "input_type=u8", "input_type=s8", "preprocessing:7", "preprocessing makes s8"),
    ("photo", "preprocessing", "input_type=u8", "input_type=s32", "preprocessing:7", "an input cannot be s32"),
    ("photo", "preprocessing", "scale_denominator=2.64", "scale_denominator=0", "preprocessing:9", "not a positive"),
    ("photo", "preprocessing", "scale_denominator=2.64", "k=0", "preprocessing:1", "lacks the key scale_denominator"),
    ("resnet", "model", "s8f32", "u8f32", "model:2", "preprocessing makes s8"),
]


@pytest.mark.parametrize(("which", "name", "old", "new", "place", "message"), EDITS)
def test_edited(
    which: str, name: str, old: str, new: str, place: str, message: str, copy: Callable[[str], Path]
) -> None:
    model = copy(which)
    edit(model / name, old, new)
    assert_refused(model, place, message)


def test_originals_are_read(originals: Path) -> None:
    for which in ("graph", "resnet", "photo"):
        read_graph(originals / which)


@pytest.mark.parametrize("name", ["model/layer1_0_relu", "model/layer1", "model/conv1"])
@pytest.mark.parametrize("how", ["missing", "directory", "pipe", "binary", "empty", "huge", "loop", "outside"])
def test_text_files_that_are_none(name: str, how: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    model = copy("resnet")
    path = model.parent / name
    text = path.read_bytes()
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "binary":
        path.write_bytes(text + b"\xff\xfe")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "huge":
        with path.open("wb") as file:
            file.truncate(MAX_TEXT + 1)
    elif how == "loop":
        path.symlink_to(path)
    elif how == "outside":
        (tmp_path / "elsewhere").write_bytes(text)
        path.symlink_to(tmp_path / "elsewhere")
    last = text.count(b"\n") + 1
    line = {"empty": ":1", "binary": f":{last}"}.get(how, "")
    message = {
        "missing": "is missing",
        "directory": "is not a regular file",
        "pipe": "is not a regular file",
        "binary": "is not UTF-8 text",
        "empty": "expected a layer type",
        "huge": "is larger than",
        "loop": "cannot be read",
        "outside": "a link that leaves the model folder",
    }[how]
    assert_refused(model, path.name + line, message)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "is missing"),
        ("short", "has 7 bytes, but s16 of shape 4 takes 8"),
        ("long", "has 9 bytes, but s16 of shape 4 takes 8"),
        ("directory", "is not a regular file"),
        ("pipe", "is not a regular file"),
        ("outside", "a link that leaves the model folder"),
        ("folder outside", "a link that leaves the model folder"),
    ],
)
def test_data_files_that_are_none(how: str, message: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    model = copy("graph")
    path = model / "npdata" / "conv.bias"
    raw = path.read_bytes()
    path.unlink()
    if how in ("short", "long"):
        path.write_bytes(raw[:-1] if how == "short" else raw + b"\0")
    elif how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "outside":
        (tmp_path / "elsewhere").write_bytes(raw)
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "folder outside":
        path.write_bytes(raw)
        (model / "npdata").rename(tmp_path / "elsewhere")
        (model / "npdata").symlink_to(tmp_path / "elsewhere")
    place, key = ("conv:13", "weight") if how == "folder outside" else ("conv:11", "bias")
    assert_refused(model, place, f"{key}: model/npdata/conv.{key}.* {message}")


def test_links_inside_are_followed(copy: Callable[[str], Path], tmp_path: Path) -> None:
    model = copy("graph")
    (model / "npdata").rename(model / "tensors")
    (model / "npdata").symlink_to("tensors")
    (model / "relu").rename(model / "shared")
    (model / "relu").symlink_to("shared")
    (tmp_path / "link").symlink_to(model)
    assert len(read_graph(model)) == len(read_graph(tmp_path / "link")) == 9


@pytest.mark.parametrize("value", [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", b"\x00\x00\x00\x80"])
def test_scales_that_are_no_numbers(value: bytes, copy: Callable[[str], Path]) -> None:
    model = copy("graph")
    path = model / "npdata" / "scale.out_scale"
    path.write_bytes(path.read_bytes()[:8] + value)
    assert_refused(model, "scale:3", "out_scale holds zero, NaN or infinity")


def test_sums_that_could_overflow(copy: Callable[[str], Path]) -> None:
    model = copy("graph")
    edit(model / "conv", "s16,1:4", "s32,1:4")
    (model / "npdata" / "conv.bias").write_bytes(np.full(4, 2**31 - 1, dtype="<i4").tobytes())
    assert_refused(model, "conv:1", "beyond the 32-bit limit")


def test_containers_too_deep(copy: Callable[[str], Path]) -> None:
    model = copy("resnet")
    name = "layer1"
    for _ in range(30):
        (model / name).write_bytes(b"Sequential\nchildren_count=1\n")
        name += "_0"
    assert_refused(model, "layer1" + "_0" * 16 + ":1", "nested too deeply")


def test_errors_in_a_shared_file_name_it(copy: Callable[[str], Path]) -> None:
    model = copy("resnet")
    edit(model / "layer1_0_relu", "s32u31", "u31u31")
    assert_refused(model, "layer1_0_relu:2", "layer1_0_relu1: is declared to read u31")


def test_an_error_in_the_addition_names_the_block(copy: Callable[[str], Path]) -> None:
    model = copy("resnet")
    edit(model / "layer4_1_downsample", "u4u16u31", "u4u16u7")
    edit(model / "layer4_1_downsample", "output_bits=31", "output_bits=7")
    assert_refused(model, "layer4_1:1", "layer4_1_add: cannot add u7")


@pytest.mark.parametrize("place", ["nowhere", "empty", "file", "a\0b", "x" * 5000, "file/below", ""])
def test_no_model_there(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFormatError, match=r"no model found: expected a folder model/ .* `nybble fetch"):
        read_graph(place)


def test_a_model_folder_without_its_root(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelFormatError, match="no model found"):
        read_graph(tmp_path)
    (tmp_path / "model" / "model").mkdir()
    with pytest.raises(ModelFormatError, match=r"(no model found|is not a regular file)"):
        read_graph(tmp_path)
