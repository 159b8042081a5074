"""What torch's exporters write is read as the module itself is: the same answers, one folded network."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'nybble[onnx]'")
if os.environ.get("CI") or os.environ.get("NYBBLE_REQUIRE_DATA") == "1":
    import onnxscript  # noqa: F401 - torch's default exporter needs it
else:
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'nybble[dev]'")

from exported_networks import BATCHES, ENDINGS, SHAPE, export, make  # noqa: E402 - needs onnx
from torchvision.models.mobilenetv2 import MobileNetV2  # noqa: E402
from torchvision.models.resnet import BasicBlock, ResNet  # noqa: E402

from nybble.graph.onnx import import_onnx  # noqa: E402
from nybble.quantize.errors import CaptureError, SourceError  # noqa: E402
from nybble.quantize.ir.float_network import FloatNetwork, Weighted  # noqa: E402
from nybble.quantize.ir.fold import fold, fold_norm  # noqa: E402
from nybble.quantize.sources.onnx import load_onnx  # noqa: E402
from nybble.quantize.sources.pytorch.capture import capture  # noqa: E402
from nybble.reference import interpret  # noqa: E402

#: Operator sets that the default exporter writes, and the older one.
DEFAULT, OLDER = range(18, 26), range(13, 24)
NAMES = list(ENDINGS)


def assert_same_network(found: FloatNetwork, expected: FloatNetwork) -> None:
    """The same operations on the same values, weights up to float32's rounding; names are the front ends' own."""
    assert [type(op) for op in found] == [type(op) for op in expected]
    places = [{op.name: place for place, op in enumerate(network)} for network in (found, expected)]
    for op, other in zip(found, expected, strict=True):
        assert [places[0].get(name) for name in op.inputs] == [places[1].get(name) for name in other.inputs]
        assert op.shape == other.shape
        for name in ("stride", "padding", "dilation", "groups", "kernel_size", "maximum", "channels", "ceil_mode"):
            assert getattr(op, name, None) == getattr(other, name, None), (op.place, name)
        if isinstance(op, Weighted) and isinstance(other, Weighted):
            for value, wanted in zip(fold_norm(op), fold_norm(other), strict=True):
                torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-4)


@functools.cache
def captured(name: str) -> FloatNetwork | None:
    """The folded network of one of ``ENDINGS``, ``None`` where PyTorch capture refuses it."""
    try:
        return fold(capture(make(name), SHAPE))
    except CaptureError:
        return None


def check(
    module: nn.Module,
    expected: FloatNetwork | None,
    path: Path,
    shape: tuple[int, int, int] = SHAPE,
    *,
    has_softmax: bool = False,
) -> None:
    """Answers are the module's, whatever the batch, and the network is the one that capture gives.

    What capture refuses is refused here as well, in one line.
    """
    try:
        loaded = load_onnx(path)
    except SourceError as error:
        assert expected is None, error
        assert str(error).startswith(f"{path}: node ") and "\n" not in str(error)
        return
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        answers = loaded(x)
        # Softmax at the end is left out: logits are what is compared.
        found = answers.softmax(1) if has_softmax else answers
        torch.testing.assert_close(found, module(x).flatten(1), atol=1e-4, rtol=1e-4)
    assert expected is not None
    assert_same_network(fold(capture(loaded, shape)), expected)


def check_ending(name: str, folder: Path, *, opset: int, batch: int | None, default: bool) -> None:
    """Export one of ``ENDINGS`` and check what is read."""
    module, path = make(name), folder / f"{name.replace(' ', '_')}.onnx"
    export(module, path, opset=opset, batch=batch, default=default)
    assert onnx.load(path).opset_import[0].version == opset
    check(module, captured(name), path, has_softmax="softmax" in name)


@pytest.mark.parametrize(
    ("name", "batch"),
    # Two batches each, for want of time.
    [(name, batch) for i, name in enumerate(NAMES) for j, batch in enumerate(BATCHES) if (i + j) % 3],
)
def test_the_default_exporter(name: str, batch: int | None, tmp_path: Path) -> None:
    """Every spelling, in operator sets that take turns: each comes twice or more."""
    opset = DEFAULT[NAMES.index(name) % len(DEFAULT)]
    check_ending(name, tmp_path, opset=opset, batch=batch, default=True)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_the_older_exporter(name: str, batch: int | None, tmp_path: Path) -> None:
    place = NAMES.index(name) + 4 * BATCHES.index(batch)
    check_ending(name, tmp_path, opset=OLDER[place % len(OLDER)], batch=batch, default=False)


def test_operator_sets_that_torch_itself_refuses(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Unsupported onnx_opset_version: 24"):
        export(make("flatten"), tmp_path / "x.onnx", opset=24, batch=1, default=False)


@pytest.mark.parametrize(
    ("name", "default", "batch"),
    [("resnet", True, 2), ("resnet", False, None), ("mobilenet", True, 1), ("mobilenet", False, 2)],
)
def test_torchvision(name: str, default: bool, batch: int | None, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module
        if name == "resnet":
            module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=7)
        else:
            blocks = [[1, 16, 1, 1], [6, 16, 2, 2]]
            module = MobileNetV2(num_classes=7, width_mult=0.5, inverted_residual_setting=blocks)
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                nn.init.uniform_(child.running_var, 0.5, 1.5)
                nn.init.normal_(child.running_mean, 0.0, 0.1)
    shape = (3, 32, 32)
    path = tmp_path / f"{name}.onnx"
    expected = fold(capture(module.eval(), shape))
    check(module, expected, export(module, path, opset=18, batch=batch, default=default, shape=shape), shape)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    """The default exporter writes them into a file of their own, which the reader takes with it."""
    module = make("residual")
    path = export(module, tmp_path / "network.onnx", opset=18, batch=1, default=True)
    assert (tmp_path / "network.onnx.data").is_file()
    check(module, captured("residual"), path)
    (tmp_path / "network.onnx.data").unlink()
    with pytest.raises(SourceError, match=r"'network\.onnx\.data', which cannot be read: No such file"):
        load_onnx(path)


def test_values_of_the_batch_are_not_taken_for_shapes(tmp_path: Path) -> None:
    """A row of the batch, or a sum over it: what mixes images is refused, also where a batch of one hides it."""

    class Mixed(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 5, 12)
            self.how = how

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x).flatten(1)
            return {"first": lambda: y[:1], "turned": lambda: y.t(), "joined": lambda: y.reshape(1, -1)}[self.how]()

    for how, batch in (("first", 2), ("first", None), ("turned", 2), ("turned", None), ("joined", 2)):
        path = export(Mixed(how).eval(), tmp_path / f"{how}.onnx", opset=18, batch=batch, default=False)
        with pytest.raises(SourceError) as caught:
            load_onnx(path)
        assert str(caught.value).startswith(f"{path}: node "), how


class Trained(nn.Module):
    """Quantization-aware training as PyTorch has it, scales of weights computed from them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def weight(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().flatten(1).amax(1) / 127
        return torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(len(weight)).int(), 0, -128, 127)

    def forward(self, x: Tensor) -> Tensor:
        def rounded(value: Tensor, scale: float) -> Tensor:
            return torch.fake_quantize_per_tensor_affine(value, scale, 0, -128, 127)

        x = rounded(x, 0.031)
        y = rounded(functional.relu(functional.conv2d(x, self.weight(self.first.weight), None, padding=1)), 0.0217)
        z = functional.conv2d(y, self.weight(self.second.weight), self.second.bias, padding=1)
        y = rounded(functional.relu(z + y), 0.0253)
        return functional.linear(rounded(y.mean((2, 3)), 0.0101), self.weight(self.head.weight), self.head.bias)


@pytest.mark.parametrize(
    ("opset", "batch", "default"), [(13, 1, False), (18, None, False), (18, 1, True), (23, 2, True)]
)
def test_trained_quantized_networks_are_imported(opset: int, batch: int | None, default: bool, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = Trained().eval()
    made = import_onnx(export(module, tmp_path / "trained.onnx", opset=opset, batch=batch, default=default))
    x = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(3))
    assert made.input_scale is not None
    codes = np.clip(np.rint(x.numpy() / np.float32(made.input_scale)), -128, 127).astype(np.int8)
    found = interpret(made.graph, codes)[made.graph.outputs[0]].reshape(32, -1)
    with torch.no_grad():
        expected = module(x).numpy()
    assert np.abs(found - expected).max() < 0.05 * expected.std()
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.95
