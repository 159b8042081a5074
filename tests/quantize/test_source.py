"""SOURCE strings and files of weights."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path

import float_networks
import numpy as np
import pytest
import torch
from torch import nn

from nybble.graph import write_graph
from nybble.models import SHIPPED, ModelNotFoundError
from nybble.quantize.errors import SourceError
from nybble.quantize.sources.load import load_source, load_weights
from nybble.synthetic import bottleneck_resnet


def test_torchvision_networks_by_name() -> None:
    with pytest.warns(UserWarning, match=r"^torchvision:mobilenet_v2 has random weights \(seed 0\); give trained ones"):
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
        ("nowhere", "is not a model directory, the name of a model"),
        ("no_such_package:make", "cannot be imported"),
        ("float_networks:Missing", "has no Missing"),
        ("float_networks:NETWORKS", "neither a function nor a module"),
        ("float_networks:Bottleneck", "without arguments"),
        ("", "is not a model directory, the name of a model"),
        ("somewhere/model", "is not a model directory, the name of a model"),
        ("torchvision:", "is not a model directory, the name of a model"),
        ("some where:make", "'some where' is not the name of a Python module"),
        (".relative:make", "is not the name of a Python module"),
        ("net.py:make", r"cannot be imported: .*; leave out `\.py`"),
        ("missing.ONNX", r"missing\.ONNX: cannot be read: No such file"),
        ("torchvision:fasterrcnn_resnet50_fpn", "is not an image classifier: it finds objects"),
        ("torchvision:fcn_resnet50", "is not an image classifier: it labels pixels"),
        ("torchvision:r3d_18", "is not an image classifier: it reads videos"),
        ("torchvision:raft_small", "is not an image classifier: it estimates motion"),
        ("torchvision:quantized_resnet18", "is quantized already; name the float network, torchvision:resnet18"),
        ("float_networks:functional.relu", "without arguments"),
        ("float_networks:CifarNet@missing.pth", "missing.pth: there is no such file; nothing is downloaded"),
    ],
)
def test_what_is_wrong_is_said(source: str, word: str) -> None:
    with pytest.raises(SourceError, match=word) as caught:
        load_source(source)
    assert str(caught.value).startswith(source.partition("@")[0]) or source.endswith(".pth")
    assert "\n" not in str(caught.value)


#: Code of a user, the number of the line at fault, and what is said about it.
FAULTS = {
    "import": ("import os\nimport not_there_at_all\n", 2, "ModuleNotFoundError: No module named 'not_there_at_all'"),
    "syntax": ("x = 1\ndef make(:\n", 2, "SyntaxError: "),
    "value": ("x = 1\n\ny = int('a')\n", 3, "ValueError: invalid literal"),
    "exit": ("import sys\nsys.exit('usage: train.py')\n", 2, "SystemExit: usage: train.py"),
    "call": ("def make():\n    return {}['weights']\n", 2, "raised .*KeyError: 'weights'"),
    "type": ("def make():\n    return len(3)\n", 2, "raised .*TypeError: object of type 'int'"),
    "torch": (
        "import torch\ndef make():\n    return torch.nn.Conv2d(3, 4, 3, groups=2)\n",
        3,
        "raised .*ValueError: in_channels",
    ),
    "lines": ("def make():\n    raise OSError('two\\nlines')\n", 2, "raised .*OSError: two lines"),
    "leaves": ("import sys\ndef make():\n    sys.exit()\n", 3, "raised .*SystemExit"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_errors_of_the_users_code_name_its_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, line, words = FAULTS[name]
    (tmp_path / f"faulty_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=words) as caught:
        load_source(f"faulty_{name}:make")
    text = str(caught.value)
    assert text.startswith(f"faulty_{name}:make: ") and "\n" not in text
    assert f"{tmp_path}/faulty_{name}.py:{line}: " in text


def test_what_a_factory_returns_must_be_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "returns_two.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(1, 1), 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"returned tuple, not a torch\.nn\.Module; return the network alone"):
        load_source("returns_two:make")


def test_files_that_are_no_source_are_told_apart(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2))
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    torch.save(module, tmp_path / "whole.pt")
    torch.save(module.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), tmp_path / "script.pt")
    (tmp_path / "code.py").write_text("")
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "text").write_text("hello")
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nowhere")
    for file, words in (
        ("weights.pth", "PACKAGE:FACTORY@"),
        ("whole.pt", "pickled module; name the code that makes the network"),
        ("old.pt", "PACKAGE:FACTORY@"),
        ("a.safetensors", "PACKAGE:FACTORY@"),
        ("script.pt", "TorchScript or exported program; export the network with torch.onnx.export"),
        ("code.py", "code:FACTORY, its folder in PYTHONPATH"),
        ("text", "is neither a model directory nor an .onnx file"),
        ("pipe.pt", "neither a regular file nor a model directory"),
        ("gone.pt", "neither a regular file nor a model directory"),
    ):
        with pytest.raises(SourceError, match=words):
            load_source(str(tmp_path / file))


@pytest.mark.parametrize("name", ["torchvision:shufflenet_v2_x0_5", "random_network:make"])
def test_random_weights_come_from_the_seed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "random_network.py").write_text(
        "import random\nimport numpy, torch\nfrom torch import nn\n"
        "def make():\n"
        "    layer = nn.Conv2d(3, 4, 1)\n"
        "    layer.bias.data[0], layer.bias.data[1] = random.random(), numpy.random.rand()\n"
        "    return nn.Sequential(layer, nn.BatchNorm2d(4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def drawn(seed: int) -> dict[str, torch.Tensor]:
        with pytest.warns(UserWarning, match=rf"^{name} has random weights \(seed {seed}\)"):
            module = load_source(name, seed=seed).module
        assert module is not None
        return module.state_dict()

    torch.manual_seed(5)
    random.seed(5)
    before = torch.random.get_rng_state(), random.getstate()
    first = drawn(0)
    assert torch.equal(torch.random.get_rng_state(), before[0]) and random.getstate() == before[1]
    torch.randn(3), random.random(), np.random.rand()
    again, other = drawn(0), drawn(7)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_a_network_with_statistics_is_taken_for_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seen_photos.py").write_text(
        "from torch import nn\ndef make():\n    norm = nn.BatchNorm2d(3)\n    norm.running_mean[1] = 0.5\n"
        "    return nn.Sequential(norm)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_source("seen_photos:make").module is not None


def test_torchvision_downloads_and_says_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """GoogLeNet and Inception warn of a change of defaults unless told how to draw their weights."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("downloads")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    for name in ("googlenet", "inception_v3"):
        with pytest.warns(UserWarning) as caught:
            load_source(f"torchvision:{name}")
        assert [str(entry.message).split(" (")[0] for entry in caught] == [f"torchvision:{name} has random weights"]


def test_a_model_is_named_as_commands_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NYBBLE_CACHE", str(tmp_path))
    assert load_source(SHIPPED).graph is not None
    with pytest.raises(ModelNotFoundError, match="run: nybble fetch nvidia-resnet50-int4"):
        load_source("nvidia-resnet50-int4")


def test_weights_as_safetensors(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors: pip install safetensors")
    module, wanted = nn.Linear(3, 2), nn.Linear(3, 2)
    safetensors.save_file(wanted.state_dict(), tmp_path / "weights.safetensors")
    load_weights(module, tmp_path / "weights.safetensors")
    assert torch.equal(module.weight, wanted.weight)
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(SourceError, match=r"damaged\.safetensors: is not a safetensors file"):
        load_weights(module, tmp_path / "damaged.safetensors")


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harmed",)


def test_files_of_weights_run_no_code_and_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = nn.Linear(3, 2)
    torch.save({"weight": Harmful()}, "code.pth")
    with pytest.raises(SourceError, match=r"code\.pth: is not a file of weights"):
        load_weights(module, "code.pth")
    assert not Path("harmed").exists()
    os.mkfifo("pipe.pth")
    with pytest.raises(SourceError, match=r"pipe\.pth: is not a file of weights: it is not a regular file"):
        load_weights(module, "pipe.pth")
    Path("text.pth").write_text("hello")
    with pytest.raises(SourceError, match=r"text\.pth: .*: it is damaged, or of another kind; save module.state_dict"):
        load_weights(module, "text.pth")
    torch.save(module, "module.pth")
    with pytest.raises(SourceError, match=r"module\.pth: .* it holds torch.nn.modules.linear.Linear; save module"):
        load_weights(module, "module.pth")
    torch.save([1, 2], "list.pth")
    with pytest.raises(SourceError, match="no mapping"):
        load_weights(module, "list.pth")
    torch.save({"weight": torch.zeros(2, 3), "extra": torch.zeros(1)}, "names.pth")
    with pytest.raises(SourceError, match="lacks bias and has unexpected extra"):
        load_weights(module, "names.pth")
    torch.save({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "shape.pth")
    with pytest.raises(SourceError, match=r"weight has the shape \(2, 4\)"):
        load_weights(module, "shape.pth")
    torch.save({"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)}, "nan.pth")
    with pytest.raises(SourceError, match="weight holds NaN"):
        load_weights(module, "nan.pth")
