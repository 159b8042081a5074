"""Files that the documentation's commands are run on: each is made where a page names it."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nybble.graph import Preprocessing

if TYPE_CHECKING:
    from nybble.quantize import QuantizedNetwork

ROOT = Path(__file__).resolve().parents[2]
SMALL = Preprocessing(resize=32, crop=(32, 32))
_PACKAGE = '''
import torch


def make():
    """A small classifier, random weights."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 1, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 1000),
    )
'''
_CONF = "*.*.min_duration = 500\n*.*.min_query_count = 1\n"


def prepare(folder: Path, text: str) -> None:
    """Make what ``text``, the source of a page, names."""
    for name, make in _MAKERS.items():
        if re.search(rf"^python -m nybble.demo.photo_set {name}\b", text, re.MULTILINE):
            continue
        if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", text) and not (folder / name).exists():
            make(folder / name)


def _sample(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from PIL import Image

        from nybble.demo import samples

        source = next(path for sample, path in samples() if sample.file.startswith(name))
        with Image.open(source) as photo:
            photo.convert("RGB").save(path)

    return make


def _photos(path: Path) -> None:
    from nybble.demo.photo_set import write_photo_set

    write_photo_set(path, 10)


def _package(path: Path) -> None:
    path.mkdir()
    (path / "__init__.py").touch()
    (path / "networks.py").write_text(_PACKAGE, encoding="utf-8")


def _resnet18(path: Path) -> None:
    import torch
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)


def _weights(path: Path) -> None:
    import torch

    torch.save(small_module().state_dict(), path)


def _network(path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The older exporter needs no package beside torch.
        torch.onnx.export(small_module(), (torch.zeros(1, 3, *SMALL.crop),), path, dynamo=False, input_names=["input"])


def _integers(path: Path) -> None:
    """``network.onnx`` by ONNX Runtime's quantizer."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """One input."""

        left = 1

        def get_next(self) -> dict[str, Any] | None:
            self.left -= 1
            return {"input": np.zeros((1, 3, *SMALL.crop), np.float32) + 0.5} if self.left >= 0 else None

    source = path.with_name("float-source.onnx")
    _network(source)
    options = {"ActivationSymmetric": True, "WeightSymmetric": True}
    quantize_static(
        source,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options=options,
    )
    source.unlink()


def small_module() -> Any:
    """The classifier of ``my_package``."""
    content: dict[str, Any] = {}
    exec(_PACKAGE, content)
    return content["make"]()


def small_network() -> QuantizedNetwork:
    """The same, prepared in 8 bits."""
    from nybble.quantize import QuantizeConfig
    from nybble.quantize import prepare as prepare_network

    return prepare_network(small_module(), (3, *SMALL.crop), QuantizeConfig(bits="w8a8"), SMALL)


def _labels(path: Path) -> None:
    lines = (ROOT / "src/nybble/data/imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{number}.jpg {number}\n" for number in range(min(8, len(lines)))), encoding="utf-8")


_MAKERS: dict[str, Callable[[Path], None]] = {
    "cat.jpg": _sample("chelsea"),
    "cat.png": _sample("chelsea"),
    "photo.jpg": _sample("chelsea"),
    "street.jpg": _sample("motorcycle"),
    "coffee.png": _sample("coffee"),
    **dict.fromkeys(("photos", "other-photos", "train", "selection", "photos-500", "imagenet-val-10"), _photos),
    "my_package": _package,
    "resnet18.pth": _resnet18,
    "weights.pth": _weights,
    "network.onnx": _network,
    "tiny-int8.onnx": _integers,
    "quick.conf": lambda path: path.write_text(_CONF, encoding="utf-8") and None,
    "val_map.txt": _labels,
}


def cache(folder: Path) -> Path:
    """A cache folder in which the bundled ResNet-50 stands for the one that would be downloaded."""
    shutil.copytree(ROOT / "models/resnet50/model", folder / "nvidia-resnet50-int4/model")
    return folder
