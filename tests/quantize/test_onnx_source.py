"""Float ONNX files as SOURCE: their answers are ONNX Runtime's; what is unsupported or damaged is said in one error."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import float_networks
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'nybble[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'nybble[bench]'")

from onnx_files import SHAPE, File, images  # noqa: E402 - needs onnx

from nybble.graph import Preprocessing  # noqa: E402
from nybble.graph.types import Array  # noqa: E402
from nybble.quantize.calibrate.calibration import calibrate  # noqa: E402
from nybble.quantize.errors import QuantizeError, SourceError  # noqa: E402
from nybble.quantize.ir.float_network import Pad  # noqa: E402
from nybble.quantize.ir.fold import fold  # noqa: E402
from nybble.quantize.lower.convert import convert  # noqa: E402
from nybble.quantize.pipeline import PreprocessingConfig  # noqa: E402
from nybble.quantize.pipeline.preprocessing import preprocessing_of_source  # noqa: E402
from nybble.quantize.prepare.prepare import prepare  # noqa: E402
from nybble.quantize.sources.load import load_source  # noqa: E402
from nybble.quantize.sources.onnx import OnnxModule, load_onnx  # noqa: E402
from nybble.quantize.sources.pytorch.capture import capture, capture_with_module  # noqa: E402


def answers(path: Path, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {session.get_inputs()[0].name: x})[0]
    return found.reshape(len(x), -1)


def assert_same(path: Path, x: Array, expected: Array | None = None) -> OnnxModule:
    """The module's answers and its folded network's are the runtime's."""
    module = load_onnx(path)
    assert isinstance(module, OnnxModule)
    expected = answers(path, x) if expected is None else expected
    scale = max(1.0, float(np.abs(expected).max()))
    found = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)
    folded = fold(capture(module, x.shape[1:]))  # type: ignore[arg-type]
    np.testing.assert_allclose(folded(torch.from_numpy(x)).flatten(1).numpy(), expected, atol=1e-4 * scale)
    return module


@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize("name", [name for name in float_networks.NETWORKS if name != "vgg"])
def test_what_pytorch_exports(name: str, opset: int, tmp_path: Path) -> None:
    module, shape = float_networks.make(name)
    path = tmp_path / "exported.onnx"
    x = float_networks.images(shape, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "N"}} if opset == 18 else None
        torch.onnx.export(
            module, (x,), str(path), opset_version=opset, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    # ONNX Runtime does not run the SAME padding with holes that "odd" is exported with.
    expected = module(x).detach().numpy() if name == "odd" else None
    loaded = assert_same(path, x.numpy(), expected)
    weights = {op.name for op in loaded.network} & {key.removesuffix(".weight") for key in module.state_dict()}
    assert name == "odd" or len(weights) >= 2


Part = Callable[[File, int, st.DrawFn], int]


def _conv(file: File, channels: int, draw: st.DrawFn) -> int:
    outputs, padding = 2 * draw(st.integers(1, 4)), draw(st.sampled_from(("SAME_UPPER", "SAME_LOWER", "VALID", "")))
    sides = {"auto_pad": padding} if padding else {"pads": [draw(st.integers(0, 2)) for _ in range(4)]}
    stride = [draw(st.integers(1, 2)), draw(st.integers(1, 2))]
    group = draw(st.sampled_from((1, 2))) if channels % 2 == 0 else 1
    kernel = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    file.conv(channels, outputs, kernel, strides=stride, group=group, **sides)
    return outputs


def _norm(file: File, channels: int, draw: st.DrawFn) -> int:
    parameters = [file.drawn(channels) for _ in range(3)]
    file.node("BatchNormalization", *parameters, file.drawn(channels, low=0.3, high=2), epsilon=1e-3)
    return channels


def _relu(file: File, channels: int, draw: st.DrawFn) -> int:
    if draw(st.booleans()):
        file.node("Relu")
    elif draw(st.booleans()):
        file.node("Clip", file.constant(0.0), file.constant(draw(st.sampled_from((1.0, 6.0)))))
    else:
        file.node("Clip", file.constant(0.0))
    return channels


def _affine(file: File, channels: int, draw: st.DrawFn) -> int:
    op = draw(st.sampled_from(("Add", "Sub", "Mul", "Div")))
    by_channel = draw(st.booleans())
    constant = file.drawn(channels, 1, 1, low=0.5, high=2) if by_channel else file.constant(1.5)
    if op in ("Add", "Sub", "Mul") and draw(st.booleans()):
        file.node(op, constant, file.last, first=False)
    else:
        file.node(op, constant)
    return channels


def _pool(file: File, channels: int, draw: st.DrawFn) -> int:
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [1, draw(st.integers(1, 2))]}
    window["pads"] = [draw(st.integers(0, 1)) for _ in range(2)] * 2
    if draw(st.booleans()):
        file.node("AveragePool", count_include_pad=draw(st.integers(0, 1)), **window)
    else:
        file.node("MaxPool", **window)
    return channels


def _branches(file: File, channels: int, draw: st.DrawFn) -> int:
    source = file.last
    left = file.conv(channels, channels, (1, 1))
    file.last = source
    if draw(st.booleans()):
        file.node("Add" if draw(st.booleans()) else "Sum", left)
        return channels
    right = file.conv(channels, 3, (3, 3), pads=[1, 1, 1, 1])
    file.node("Concat", left, right, source, first=False, axis=draw(st.sampled_from((1, -3))))
    return 2 * channels + 3


def _move(file: File, channels: int, draw: st.DrawFn) -> int:
    form = draw(st.sampled_from(("pad", "channels", "slice", "nothing")))
    if form == "pad":
        file.node("Pad", file.constant([0, 0, 1, 0, 0, 0, 0, 2], np.int64), file.constant(0.0))
        return channels
    if form == "channels":
        file.node("Pad", file.constant([0, 1, 0, 0, 0, 2, 0, 0], np.int64))
        return channels + 3
    if form == "slice":
        ends = [file.constant(values, np.int64) for values in ([0, 0], [1 << 40, 1 << 40], [2, 3], [2, 2])]
        file.node("Slice", *ends)
    else:
        file.node("Identity")
        file.node("Dropout", file.constant(0.3), file.constant(False, np.bool_))
        file.node("Cast", to=onnx.TensorProto.FLOAT)
    return channels


PARTS: tuple[Part, ...] = (_conv, _conv, _norm, _relu, _affine, _pool, _branches, _move)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_drawn_files(data: st.DataObject, tmp_path: Path) -> None:
    """The unfolded network only: what cannot be put in integers, as a ReLU of the image, can be drawn as well."""
    file = File(data.draw(st.integers(0, 99)))
    channels = SHAPE[0]
    for part in data.draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=5)):
        channels = part(file, channels, data.draw)
    finish(file, channels, data.draw)
    path = file.save(tmp_path / "drawn.onnx")
    x = images()
    expected = answers(path, x)
    found = load_onnx(path)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def finish(file: File, channels: int, draw: st.DrawFn) -> None:
    """From an image to logits, in one of the ways that exporters know."""
    form = draw(st.sampled_from(("average", "mean", "mean of vectors", "maximum")))
    if form == "mean of vectors":
        file.node("ReduceMean", axes=[-1, 2], keepdims=0)
    else:
        file.node(
            *{"mean": ["ReduceMean"], "maximum": ["GlobalMaxPool"]}.get(form, ["GlobalAveragePool"]),
            **({"axes": [2, 3]} if form == "mean" else {}),
        )
        flat = draw(st.sampled_from(("flatten", "reshape", "computed", "squeeze", "convolution")))
        if flat == "convolution":
            file.conv(channels, 5, (1, 1))
            return
        flatten(file, flat)
    if draw(st.booleans()):
        file.node("MatMul", file.drawn(channels, 5))
        file.node("Add", file.drawn(5))
    else:
        file.node("Gemm", file.drawn(channels, 5), file.drawn(5), alpha=0.7, beta=2.0)


def flatten(file: File, form: str) -> None:
    source = file.last
    if form == "computed":
        # As PyTorch writes x.view(x.size(0), -1).
        file.node("Shape")
        file.node("Gather", file.constant(0, np.int64))
        file.node("Unsqueeze", file.constant([0], np.int64))
        shape = file.node("Concat", file.constant([-1], np.int64), axis=0)
        file.node("Reshape", source, shape, first=False)
    elif form == "reshape":
        file.node("Reshape", file.constant([0, -1], np.int64))
    elif form == "squeeze":
        file.node("Squeeze", file.constant([2, 3], np.int64))
    else:
        file.node("Flatten", axis=1)


def test_older_forms(tmp_path: Path) -> None:
    """Attributes where later versions have inputs; a softmax at the end, which only scales; a computed constant."""
    file = File(opset=9)
    file.conv(3, 4)
    file.node("Clip", min=0.0, max=6.0)
    file.node("Pad", pads=[0, 0, 1, 1, 0, 0, 0, 0])
    file.node("MaxPool", kernel_shape=[3, 3], strides=[2, 2])
    file.node("Slice", starts=[0], ends=[9000], axes=[2])
    file.node("GlobalAveragePool")
    file.node("Squeeze", axes=[2, 3])
    weight, source = file.drawn(5, 4), file.last
    turned = file.node("Transpose", weight, first=False, perm=[1, 0])
    file.node("MatMul", source, turned, first=False)
    path = file.save(tmp_path / "logits.onnx")
    x = images()
    logits = answers(path, x)
    assert_same(path, x)
    file.node("Softmax", axis=1)
    path = file.save(tmp_path / "shares.onnx")
    assert_same(path, x, logits)
    np.testing.assert_allclose(answers(path, x).sum(1), 1, rtol=1e-5)


def split_file(opset: int, outputs: int, *inputs: Array, **attributes: Any) -> File:
    """Eight channels in parts, in the opposite order, all but the first part through a layer."""
    file = File(opset=opset)
    source = file.conv(3, 8)
    parts = [f"part{index}" for index in range(outputs)]
    names = [file.constant(values, np.int64) for values in inputs]
    file.nodes.append(onnx.helper.make_node("Split", [source, *names], parts, name="split", axis=1, **attributes))
    joined = file.node("Concat", *parts[::-1], first=False, axis=1)
    file.node("Add", file.node("Relu", parts[-1], first=False), parts[-1], first=False)
    file.node("Concat", joined, axis=1)
    file.node("GlobalAveragePool")
    return file


@pytest.mark.parametrize(
    ("opset", "outputs", "inputs", "attributes", "last"),
    [
        (11, 2, (), {}, 4),
        (11, 3, (), {"split": [1, 2, 5]}, 5),
        (13, 2, (), {}, 4),
        (13, 3, ([5, 2, 1],), {}, 1),
        (18, 3, (), {"num_outputs": 3}, 2),
        (18, 1, (), {"num_outputs": 1}, 8),
        (20, 2, ([3, 5],), {}, 5),
    ],
)
def test_channels_in_parts(
    opset: int, outputs: int, inputs: tuple[Array, ...], attributes: dict[str, Any], last: int, tmp_path: Path
) -> None:
    file = split_file(opset, outputs, *inputs, **attributes)
    file.head(8 + last)
    assert_same(file.save(tmp_path / "parts.onnx"), images())


@pytest.mark.parametrize(
    ("outputs", "inputs", "attributes", "words"),
    [
        (2, ([3, 6],), {}, "8 channels cannot be split into parts of 3, 6"),
        (2, ([8, 0],), {}, "8 channels cannot be split into parts of 8, 0"),
        (2, ([9, -1],), {}, "8 channels cannot be split into parts of 9, -1"),
        (2, ([2, 2, 4],), {}, "2 outputs for 3 parts"),
        (5, (), {"num_outputs": 5}, "5 outputs for 4 parts"),
    ],
)
def test_parts_that_do_not_fit(
    outputs: int, inputs: tuple[Array, ...], attributes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    file = split_file(18, outputs, *inputs, **attributes)
    file.head(8)
    with pytest.raises(SourceError, match=f"'split' .Split.: .*{words}"):
        load_onnx(file.save(tmp_path / "parts.onnx"))


def test_images_of_any_size(tmp_path: Path) -> None:
    file = File(shape=("N", 1, "H", "W"))
    file.conv(1, 4, auto_pad="SAME_UPPER", strides=[2, 2])
    file.node("GlobalAveragePool")
    file.head(4)
    path = file.save(tmp_path / "any.onnx")
    module = load_onnx(path)
    assert isinstance(module, OnnxModule) and module.image_size is None and module.channels == 1
    for size in ((9, 12), (8, 7)):
        x = images(2, (1, *size))
        np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), answers(path, x), atol=1e-5)
        # One row of padding where the size is even, on the side where TensorFlow has it.
        padding = capture(module, (1, *size)).ops[0].padding  # type: ignore[attr-defined]
        assert padding == (size[0] % 2, size[1] % 2, 1, 1)
    assert sum(buffer.numel() for buffer in module.buffers()) == 4 * 9 + 4 + 4 * 5 + 5
    other = copy.deepcopy(module)
    with pytest.raises(SourceError, match="takes images of 1 channels"):
        other(torch.zeros(1, 3, 8, 8))


def test_from_the_file_to_an_integer_network(tmp_path: Path) -> None:
    module, shape = float_networks.make("fire")
    path = tmp_path / "fire.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (float_networks.images(shape, 1),), str(path), dynamo=False)
    loaded = load_source(str(path)).module
    assert loaded is not None
    x = float_networks.images(shape, 8)
    graphs = []
    for source in (module, loaded):
        network = prepare(source, shape)
        calibrate(network, [x])
        graphs.append(convert(network)[0])
    assert [type(node) for node in graphs[0]] == [type(node) for node in graphs[1]]


def test_how_photos_become_its_input(tmp_path: Path) -> None:
    file = File(shape=("N", 3, 20, 30))
    file.conv(3, 4)
    file.node("GlobalAveragePool")
    file.head(4)
    module = load_onnx(file.save(tmp_path / "fixed.onnx"))
    with pytest.warns(UserWarning, match=r"fixed.onnx does not state .* 34 pixels on the short side, a crop of 20x30"):
        found = preprocessing_of_source("fixed.onnx", module, PreprocessingConfig())
    assert found == Preprocessing(resize=34, crop=(20, 30))
    given = PreprocessingConfig(mean=(0.5,) * 3, std=(0.5,) * 3, resize=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = preprocessing_of_source("fixed.onnx", module, given)
    assert (found.resize, found.crop, found.scale_denominator) == (40, (20, 30), 1.0)
    with pytest.raises(QuantizeError, match=r"takes images of 20x30 pixels, so .* 20x20"):
        preprocessing_of_source("fixed.onnx", module, given.model_copy(update={"crop": (20, 20)}))


def _unsupported(build: Callable[[File], object]) -> File:
    file = File()
    file.conv(3, 4, (1, 1))
    build(file)
    if not file.last.startswith(("flatten", "reshape", "transpose")):
        file.node("GlobalAveragePool")
        file.head(4)
    return file


@pytest.mark.parametrize(
    ("build", "node", "words"),
    [
        (lambda f: f.node("Sin"), "'sin1' (Sin)", "supported are Add, AveragePool"),
        (lambda f: f.node("PRelu", f.drawn(1, 13, 12)), "'prelu1' (PRelu)", "are not one for each of 4 channels"),
        (lambda f: f.node("Celu", alpha=0.0), "'celu1' (Celu)", "its alpha is 0"),
        (lambda f: f.node("ArgMax", axis=1), "'argmax1' (ArgMax)", "let the network return its logits"),
        (
            lambda f: f.node("Clip", f.constant(1.0), f.constant(2.0)),
            "(Clip)",
            "clips to 1..2; the lower end must be 0",
        ),
        (lambda f: f.node("Mul", f.last, f.conv(4, 4), first=False), "(Mul)", "only values of one shape, or by a gate"),
        (lambda f: f.node("Add", f.drawn(1, 1, 13, 12)), "(Add)", "differs by more than channels"),
        (lambda f: f.node("Add", f.last, f.conv(4, 4), first=False), "(Add)", "only values of one shape"),
        (lambda f: f.node("InstanceNormalization", f.drawn(4), f.drawn(4)), "(InstanceNormalization)", "batch norm"),
        (
            lambda f: f.node("QuantizeLinear", f.constant(0.1), f.constant(0, np.uint8)),
            "(QuantizeLinear)",
            "nybble import",
        ),
        (lambda f: f.node("Transpose", perm=[1, 0, 2, 3]), "(Transpose)", "do not leave the batch first"),
        (lambda f: f.node("DepthToSpace", blocksize=3), "(DepthToSpace)", "not divisible into blocks of 3"),
        (lambda f: f.node("Conv", f.last), "(Conv)", "weights must be constant"),
        (
            lambda f: f.node("Concat", f.last, f.conv(4, 4), first=False, axis=2),
            "(Concat)",
            "that have the rest in common",
        ),
        (
            lambda f: f.node("Pad", f.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), f.constant(1.0)),
            "(Pad)",
            "only zeros can be put around images",
        ),
        (lambda f: f.node("Flatten", axis=2), "(Flatten)", "from axis 1 on"),
        (lambda f: f.node("Reshape", f.constant([0, 13, -1], np.int64)), "(Reshape)", "is not flattening"),
        (
            lambda f: f.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            "(AveragePool)",
            "ceil_mode=0",
        ),
        (lambda f: f.node("Softmax", axis=1), "(Softmax)", "over the classes of (N, classes) only"),
        (lambda f: f.node("MaxPool", kernel_shape=[20, 20]), "(MaxPool)", "20x20 does not fit 13x12"),
        (lambda f: f.conv(4, 4, (1, 1), group=3), "(Conv)", "does not fit"),
    ],
)
def test_what_is_not_supported_is_named(build: Callable[[File], object], node: str, words: str, tmp_path: Path) -> None:
    path = _unsupported(build).save(tmp_path / "unsupported.onnx")
    with pytest.raises(SourceError) as caught:
        load_onnx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: node ") and node in text and words in text and len(text) < 700, text


def test_files_that_are_no_classifiers(tmp_path: Path) -> None:
    def refused(file: File, words: str) -> None:
        with pytest.raises(SourceError, match=words):
            load_onnx(file.save(tmp_path / "other.onnx"))

    refused(
        _unsupported(lambda f: f.node("Constant", first=False, value_float=1.0)), "reads constants alone; let onnxsim"
    )
    for shape, words in (
        (("N", 13, 12, 3), "channels last; .*inputs-as-nchw"),
        (("N", 3, 13), "has 3 dimensions"),
        (("N", 5, 13, 12), "has 5 channels"),
    ):
        file = File(shape=shape)
        file.node("Relu")
        refused(file, words)
    image = File()
    image.conv(3, 4)
    network, _ = capture_with_module(load_onnx(image.save(tmp_path / "image.onnx")), (3, 13, 12))
    assert network.outputs == ("conv0_out",)
    bad = File()
    bad.node("Conv", bad.constant(np.full((4, 3, 1, 1), np.inf)))
    bad.node("GlobalAveragePool")
    refused(bad, r"'conv0' \(Conv\): .*its constant input 1 holds NaN or infinity")
    half = _unsupported(lambda f: f.node("Relu")).proto()
    half.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(half, str(tmp_path / "half.onnx"))
    with pytest.raises(SourceError, match="FLOAT16"):
        load_onnx(tmp_path / "half.onnx")
    two = _unsupported(lambda f: f.node("Relu")).proto()
    two.graph.output.append(onnx.helper.make_tensor_value_info("relu1_out", onnx.TensorProto.FLOAT, ["a"] * 4))
    onnx.save(two, str(tmp_path / "two.onnx"))
    assert load_onnx(tmp_path / "two.onnx").network.outputs == ("gemm4_out", "relu1_out")  # type: ignore[union-attr]
    assert not load_onnx(tmp_path / "two.onnx", "gemm4_out").network.outputs  # type: ignore[union-attr]
    both = _unsupported(lambda f: f.node("Relu")).proto()
    both.graph.output.append(onnx.helper.make_tensor_value_info("gemm4_out", onnx.TensorProto.FLOAT, ["a", "b"]))
    onnx.save(both, str(tmp_path / "both.onnx"))
    with pytest.raises(SourceError, match="has 2 outputs; choose one with --output: gemm4_out, gemm4_out"):
        load_onnx(tmp_path / "both.onnx")
    with pytest.raises(SourceError, match=r"missing.onnx: cannot be read: No such file"):
        load_source(str(tmp_path / "missing.onnx"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_damaged_files_give_one_error(data: st.DataObject, tmp_path: Path) -> None:
    """Cut, or with bytes changed: an error that starts with the file, or a network that still runs."""
    whole = _unsupported(lambda f: f.node("Relu")).proto().SerializeToString()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content[:cut])
    try:
        load_onnx(path)(torch.zeros(1, *SHAPE))
    except SourceError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_padding_that_nothing_takes_is_kept(tmp_path: Path) -> None:
    file = File()
    file.conv(3, 4, (1, 1))
    file.node("Relu")
    file.node("Concat", file.constant(np.zeros((1, 2, 13, 12))), axis=1)
    file.node("GlobalAveragePool")
    file.head(6)
    module = assert_same(file.save(tmp_path / "padded.onnx"), images(1))
    assert [op.channels for op in module.network if isinstance(op, Pad)] == [(0, 2)]


def test_images_with_channels_last(tmp_path: Path) -> None:
    """As tf2onnx writes Keras networks: turned before all else, so the module takes channels first."""
    file = File(shape=("N", 13, 12, 3))
    file.node("Transpose", perm=[0, 3, 1, 2])
    file.conv(3, 4)
    file.node("Relu")
    file.node("GlobalAveragePool")
    file.head(4)
    path = file.save(tmp_path / "keras.onnx")
    x = images()
    expected = answers(path, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    module = assert_same(path, x, expected)
    assert module.image_size == (13, 12) and module.channels == 3
    for perm in ([0, 3, 2, 1], [0, 1, 2, 3], [3, 0, 1, 2]):
        file.nodes[0].CopyFrom(onnx.helper.make_node("Transpose", ["image"], ["transpose0_out"], perm=perm))
        with pytest.raises(
            SourceError, match=r"'transpose0_out' \(Transpose\): reads images with channels last; export"
        ):
            load_onnx(file.save(path))


@pytest.mark.parametrize(("low", "high"), [(None, 1.0), (-3.0, 6.0), (0.0, 2.0), (-1.0, None)])
@pytest.mark.parametrize("between", ["", "MaxPool", "Add"])
def test_a_clip_of_what_is_not_negative(low: float | None, high: float | None, between: str, tmp_path: Path) -> None:
    """Its lower end may be anything below 0, or none: Keras writes ReLU with a maximum as Relu, then Clip."""
    file = File()
    file.conv(3, 4)
    file.node("Relu")
    if between == "MaxPool":
        file.node("MaxPool", kernel_shape=[2, 2])
    elif between == "Add":
        file.node("Add", file.last)
    bounds = ["" if value is None else file.constant(value) for value in (low, high)]
    file.node("Clip", *(bounds if high is not None else bounds[:1]))
    file.node("GlobalAveragePool")
    file.head(4)
    assert_same(file.save(tmp_path / "clip.onnx"), images())


def test_one_of_several_outputs(tmp_path: Path) -> None:
    file = File()
    file.conv(3, 4)
    file.node("Relu")
    pooled = file.node("GlobalAveragePool")
    first = (file.node("Flatten"), file.node("Gemm", file.drawn(5, 4), transB=1))[1]
    file.last = pooled
    file.head(4, 7)
    proto = file.proto()
    proto.graph.output.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, ["n", 5]))
    path = tmp_path / "two.onnx"
    onnx.save(proto, str(path))
    second = file.last
    x = torch.zeros(1, *SHAPE)
    for name, classes in ((first, 5), (second, 7), ("0", 7), ("1", 5)):
        module = load_source(str(path), name).module
        assert module is not None and module(x).shape == (1, classes)
    for asked, words in ((None, "has 2 outputs"), ("2", "has no output '2'"), ("logits", "has no output 'logits'")):
        with pytest.raises(SourceError, match=rf"{words}; choose one with --output: {second}, {first}$"):
            load_source(str(path), asked)
    single = _unsupported(lambda f: f.node("Relu")).save(tmp_path / "one.onnx")
    with pytest.raises(SourceError, match="has no output 'other'; choose one with --output: gemm4_out"):
        load_onnx(single, "other")


def test_constants_that_are_computed_of_the_batch(tmp_path: Path) -> None:
    """Channels of zeros as exporters write ResNet-20's shortcut: their shape is computed from that of the images."""
    for batch in ("N", 1, 2):
        file = File(shape=(batch, *SHAPE))
        file.conv(3, 4)
        relu = file.node("Relu")
        file.node("Shape", relu, first=False)
        shape = file.node("Slice", *(file.constant([value], np.int64) for value in (0, 1, 0)))
        rest = file.constant([2, 11, 10], np.int64)
        shape = file.node("Concat", shape, rest, first=False, axis=0)
        zeros = file.node("Expand", file.constant(0.0), shape, first=False)
        file.node("Concat", relu, zeros, first=False, axis=1)
        file.node("GlobalAveragePool")
        file.head(6)
        path = file.save(tmp_path / "zeros.onnx")
        x = images(1 if batch == 1 else 2)
        assert_same(path, x)


@pytest.mark.parametrize("batch", ["N", 1, 2, 3])
@pytest.mark.parametrize(
    ("target", "allowzero"),
    [
        ([0, -1], 0),
        ([-1, 24], 0),
        ([-1, 24], 1),
        ([0, 24], 0),
        ([0, 0, 0, 0], 0),
        (["batch", -1], 1),
        (["batch", 24], 0),
        ([1, -1], 0),
        ([2, -1], 1),
        ([-1, 12], 0),
        ([24, -1], 0),
        ([0, 25], 0),
        ([0, -1, -1], 0),
        ([0, -2], 0),
        ([0, 24], 1),
        ([], 0),
        ([0, 4, 0, 0, 0], 0),
    ],
)
def test_every_new_shape_is_resolved_for_the_batch(
    batch: int | str, target: list[Any], allowzero: int, tmp_path: Path
) -> None:
    """Taken if, and only if, the runtime takes it and leaves the batch first."""
    file = File(opset=14, shape=(batch, 3, 4, 5))
    file.conv(3, 4)
    numbers = [(-1 if batch == "N" else batch) if size == "batch" else size for size in target]
    file.node("Reshape", file.constant(numbers, np.int64), allowzero=allowzero)
    file.rank = len(target)
    path = file.save(tmp_path / "reshape.onnx")
    counts = (2, 3) if batch == "N" else (int(batch),)
    keeps_apart = all(keeps_images_apart(path, count) for count in counts)
    x = images(counts[0], (3, 4, 5))
    file.node("Flatten")
    file.node("Gemm", file.drawn(5, 24), transB=1)
    file.save(path)
    is_one_image = batch == "N" and numbers[:1] == [1]
    if keeps_apart or is_one_image:
        expected = None if not is_one_image else np.concatenate([answers(path, one[None]) for one in x])
        assert_same(path, x, expected)
    else:
        with pytest.raises(SourceError, match=r"node 'reshape1' \(Reshape\): cannot be quantized"):
            load_onnx(path)


def keeps_images_apart(path: Path, count: int) -> bool:
    """Whether the runtime takes a batch of so many images and leaves it first."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = session.run(None, {"image": images(count, (3, 4, 5))})[0]
    except Exception:
        return False
    return found.shape[:1] == (count,) and found.size == 24 * count
