"""SOURCE strings and files of weights."""

from __future__ import annotations

import os
from pathlib import Path

import float_networks
import pytest
import torch
from torch import nn

from nybble.graph import write_graph
from nybble.quantize.errors import SourceError
from nybble.quantize.source import load_source, load_weights
from nybble.synthetic import bottleneck_resnet


def test_torchvision_networks_by_name() -> None:
    module = load_source("torchvision:mobilenet_v2").module
    assert isinstance(module, nn.Module) and not module.training
    with pytest.raises(SourceError, match=r"no such network; similar: .*resnet"):
        load_source("torchvision:resnet51")


@pytest.mark.parametrize("wrapped", ["plain", "module", "checkpoint"])
def test_a_factory_with_weights(tmp_path: Path, wrapped: str) -> None:
    module, shape = float_networks.make("cifar", seed=5)
    state = {
        name.replace("", "module." * (wrapped != "plain"), 1): value for name, value in module.state_dict().items()
    }
    content = {"state_dict": state, "epoch": 3} if wrapped == "checkpoint" else state
    torch.save(content, tmp_path / "weights.pth")
    loaded = load_source(f"float_networks:CifarNet@{tmp_path / 'weights.pth'}").module
    assert loaded is not None
    x = float_networks.images(shape)
    torch.testing.assert_close(loaded(x), module(x))


def test_a_model_directory(tmp_path: Path) -> None:
    graph = bottleneck_resnet((1,), width=4, classes=3, image=32)
    write_graph(graph, tmp_path / "model")
    loaded = load_source(str(tmp_path))
    assert loaded.module is None and loaded.graph is not None and len(loaded.graph) == len(graph)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("nowhere", "no model directory"),
        ("no_such_package:make", "cannot be imported"),
        ("float_networks:Missing", "has no Missing"),
        ("float_networks:NETWORKS", "neither a function nor a module"),
        ("float_networks:Bottleneck", "without arguments"),
        ("float_networks:functional.relu", "without arguments"),
        ("float_networks:CifarNet@missing.pth", "missing.pth: cannot be read"),
    ],
)
def test_what_is_wrong_is_said(source: str, word: str) -> None:
    with pytest.raises(SourceError, match=word):
        load_source(source)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harmed",)


def test_files_of_weights_run_no_code_and_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = nn.Linear(3, 2)
    torch.save({"weight": Harmful()}, "code.pth")
    with pytest.raises(SourceError, match=r"code\.pth: is no file of weights"):
        load_weights(module, "code.pth")
    assert not Path("harmed").exists()
    Path("text.pth").write_text("hello")
    with pytest.raises(SourceError, match=r"text\.pth"):
        load_weights(module, "text.pth")
    torch.save([1, 2], "list.pth")
    with pytest.raises(SourceError, match="no mapping"):
        load_weights(module, "list.pth")
    torch.save({"weight": torch.zeros(2, 3), "extra": torch.zeros(1)}, "names.pth")
    with pytest.raises(SourceError, match="lacks bias and has extra too many"):
        load_weights(module, "names.pth")
    torch.save({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "shape.pth")
    with pytest.raises(SourceError, match=r"weight has the shape \(2, 4\)"):
        load_weights(module, "shape.pth")
    torch.save({"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)}, "nan.pth")
    with pytest.raises(SourceError, match="weight holds NaN"):
        load_weights(module, "nan.pth")
