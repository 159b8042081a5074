"""Modules in other types, and modules that return more than logits."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble.quantize.errors import CaptureError
from nybble.quantize.prepare.prepare import prepare
from nybble.quantize.sources.pytorch.capture import capture, capture_with_module

SHAPE = (3, 8, 7)


@dataclasses.dataclass
class Answer:
    loss: Tensor | None = None
    logits: Tensor | None = None
    states: tuple[Tensor, ...] | None = None


class Output(OrderedDict[str, Any]):
    """Of the kind of transformers' ModelOutput: a dataclass and a mapping in one."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


Pair = namedtuple("Pair", ["first", "second"])


class Net(nn.Module):
    def __init__(self, wrap: Callable[[Tensor, Tensor], Any] = lambda logits, features: logits) -> None:
        super().__init__()
        self.wrap = wrap
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 5)
        self.register_buffer("count", torch.arange(3))

    def forward(self, x: Tensor) -> Any:
        y = functional.relu(self.norm(self.conv(x)))
        return self.wrap(self.fc(y.mean((2, 3))), y)


def net(wrap: Callable[[Tensor, Tensor], Any] = lambda logits, features: logits) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(wrap).eval()


def images() -> Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))


ALONE: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "mapping": lambda a, y: {"logits": a},
    "mapping with more": lambda a, y: {"features": y, "logits": a, "loss": None, "steps": 3},
    "tuple": lambda a, y: (a,),
    "list": lambda a, y: [a, None],
    "auxiliary that is None": lambda a, y: Pair(a, None),
    "dataclass": lambda a, y: Answer(logits=a, states=(y, y)),
    "model output": lambda a, y: Output(logits=a, hidden_states=None),
    "nested": lambda a, y: {"out": [y, {"logits": a}]},
    "image of one pixel": lambda a, y: [a[:, :, None, None]],
}


@pytest.mark.parametrize("name", ALONE)
def test_the_only_logits_are_taken(name: str) -> None:
    expected = net()(images()).detach()
    network, classifier = capture_with_module(net(ALONE[name]), SHAPE)
    torch.testing.assert_close(network(images()).flatten(1), expected)
    torch.testing.assert_close(classifier(images()).flatten(1), expected)
    assert network.ops[0].name == "conv"


SEVERAL: dict[str, tuple[Callable[[Tensor, Tensor], Any], str | int, str]] = {
    "by key": (lambda a, y: {"main": a, "aux": -a}, "main", "main (N, 5), aux (N, 5)"),
    "by field": (lambda a, y: Pair(-a, a), "second", "first (N, 5), second (N, 5)"),
    "by index": (lambda a, y: (-a, None, a), "2", "0 (N, 5), 2 (N, 5)"),
    "by place": (lambda a, y: {"x": -a, "y": a}, 1, "x (N, 5), y (N, 5)"),
    "from the end": (lambda a, y: [y, -a, a], -1, "0 (N, 6, 6, 5), 1 (N, 5), 2 (N, 5)"),
    "nested": (lambda a, y: {"heads": [-a, a]}, "heads.1", "heads.0 (N, 5), heads.1 (N, 5)"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_one_of_several_is_chosen(name: str) -> None:
    wrap, output, listed = SEVERAL[name]
    expected = net()(images()).detach()
    network = prepare(net(wrap), SHAPE, output=output)
    torch.testing.assert_close(network(images()), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(CaptureError, match=r"choose the logits .* by output=NAME") as caught:
        capture(net(wrap), SHAPE)
    assert str(caught.value).endswith(listed) and "\n" not in str(caught.value)
    with pytest.raises(CaptureError, match="has no output 'nothing'; choose one of") as caught:
        capture(net(wrap), SHAPE, output="nothing")
    assert str(caught.value).endswith(listed)


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda a, y: "text", "returns str without a tensor"),
        (lambda a, y: None, "returns NoneType without a tensor"),
        (lambda a, y: a * float("nan"), "NaN or infinity"),
    ],
)
def test_what_is_no_answer_is_refused(wrap: Callable[[Tensor, Tensor], Any], words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        capture(net(wrap), SHAPE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_types_are_captured_as_float32(dtype: torch.dtype) -> None:
    module = net().to(dtype).train()
    before = copy.deepcopy(module.state_dict())
    network, classifier = capture_with_module(module, SHAPE)
    expected = copy.deepcopy(module).float().eval()(images()).detach()
    torch.testing.assert_close(network(images()), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(classifier.eval()(images()), expected)
    for tensors in (network["conv"].weight, network["fc"].bias):  # type: ignore[attr-defined]
        assert tensors.dtype is torch.float32
    assert module.training
    for name, tensor in module.state_dict().items():
        assert tensor.dtype is before[name].dtype and torch.equal(tensor, before[name])
    assert module.count.dtype is torch.int64


class Casting(Net):
    def __init__(self, cast: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.cast = cast

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.cast(self, x))


@pytest.mark.parametrize(
    "cast",
    [
        lambda n, x: x.float(),
        lambda n, x: x.to(n.fc.weight.dtype),
        lambda n, x: x.to(n.fc.weight),
        lambda n, x: x.type_as(n.fc.weight),
        lambda n, x: x.to(dtype=torch.float32, copy=True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_casts_to_its_own_type(cast: Callable[[Net, Tensor], Tensor], dtype: torch.dtype) -> None:
    module = Casting(cast).to(dtype).eval()
    network = capture(module, SHAPE)
    expected = copy.deepcopy(module).float()(images()).detach()
    torch.testing.assert_close(network(images()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32])
def test_casts_to_other_types_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(
        CaptureError, match=rf"test_outputs.py:\d+: .*it converts to {dtype}; the network must compute in float32"
    ):
        capture(Casting(lambda n, x: x.to(dtype).float()), SHAPE)


def test_probabilities_become_logits() -> None:
    """As a teacher a module that ends with a softmax gives logits, up to a constant."""
    network, classifier = capture_with_module(net(lambda a, y: {"p": a.softmax(1)}), SHAPE)
    torch.testing.assert_close(network(images()), net()(images()).detach())
    torch.testing.assert_close(classifier(images()).softmax(1), net()(images()).softmax(1))
    with pytest.raises(CaptureError, match="nothing can be computed from a softmax"):
        capture(net(lambda a, y: a.softmax(1) * 2), SHAPE)


def test_a_module_that_needs_nothing_is_returned_itself() -> None:
    module = net()
    assert capture_with_module(module, SHAPE)[1] is module


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_module_that_casts_to_the_type_it_had(dtype: torch.dtype) -> None:
    """Its weights are float32 by then."""
    module = Casting(lambda n, x: x.to(dtype)).to(dtype)
    with pytest.raises(CaptureError, match="converted to float32, so it must not cast") as caught:
        capture(module, SHAPE)
    assert "\n" not in str(caught.value)


def test_a_map_is_an_output() -> None:
    """What is no (N, classes) is a result, of a network that is not a classifier."""
    with_map = net(lambda a, y: {"logits": a, "features": y})
    assert capture(with_map, SHAPE, output="features")
    network, _ = capture_with_module(with_map, SHAPE, output="features")
    assert network.outputs == ("output",) and [op.label for op in network.results] == ["output"]
    assert not capture_with_module(net(lambda a, y: a[:, :, None, None]), SHAPE)[0].outputs
