"""SOURCE strings, which name what to quantize.

``torchvision:resnet50``, ``torchvision:resnet50@weights.pth``, ``package.module:factory``,
``package.module:factory@weights``, the path of a model directory (also packed) or of an ONNX file, or the
name of a model.
"""

from __future__ import annotations

import inspect
import os
import random
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nybble.graph import Graph, read_graph
from nybble.graph.archive import holds_model
from nybble.models import locate, names
from nybble.quantize.errors import SourceError
from nybble.quantize.sources.factory import make
from nybble.quantize.sources.onnx import load_onnx
from nybble.quantize.sources.weights import load_weights

__all__ = ["Loaded", "load_source", "load_weights"]

#: Names shown in an error.
_SHOWN = 4
#: Networks of torchvision other than image classifiers, by the last part of their package.
_OTHER_TASKS = {
    "detection": "finds objects",
    "optical_flow": "estimates motion",
    "segmentation": "labels pixels",
    "video": "reads videos",
}
#: Limits of the seeds of NumPy and of torch.
_NUMPY_SEEDS, _TORCH_SEEDS = 1 << 32, 1 << 63


@dataclass(frozen=True)
class Loaded:
    """The network of a SOURCE: a float module or a graph; the other one is ``None``."""

    module: nn.Module | None = None
    graph: Graph | None = None


def load_source(source: str, output: str | None = None, *, seed: int = 0) -> Loaded:
    """Load the network that a SOURCE names.

    Nothing is downloaded: without weights, torchvision's networks have random ones, with a warning. A network from the
    user's own code whose batch norm has initial statistics causes the same warning.

    Parameters
    ----------
    source : str
        ``torchvision:NAME[@WEIGHTS]``, ``PACKAGE.MODULE:FACTORY[@WEIGHTS]`` (a function or class that is called without
        arguments, or a module), a model directory, the name of a model as :func:`nybble.load` takes it, or a file that
        ends in ``.onnx``.
    output : str, optional
        Which output of an ONNX file to take, where it has several. Of a module's outputs
        :func:`~nybble.quantize.sources.pytorch.capture.capture` chooses.
    seed : int
        Of random weights: torch's, NumPy's and Python's generators are set to it while the network is made, and put
        back afterwards. The same seed gives the same network.

    Returns
    -------
    Loaded
        A module in evaluation mode, or a graph.

    Raises
    ------
    SourceError
        Saying which part cannot be found or loaded, and what would be right.
    ModelFormatError
        If a model directory cannot be read.
    ModelNotFoundError
        If the model of a name is not downloaded yet.
    """
    if source.lower().endswith(".onnx"):
        return Loaded(module=load_onnx(Path(source), output))
    is_named = source in names() and not Path(source).exists()
    if is_named or (source and (Path(source).is_dir() or holds_model(source))):
        if output is not None:
            raise SourceError(f"{source}: a model directory has one output; leave out --output")
        return Loaded(graph=read_graph(locate(source)))
    if source and os.path.lexists(source):
        try:
            why = _other_file(Path(source))
        except OSError as error:
            raise SourceError(f"{source}: cannot be read: {error.strerror or error}") from error
        raise SourceError(f"{source}: {why}")
    name, _, weights = source.partition("@")
    package, colon, factory = name.partition(":")
    if not colon or not package or not factory:
        raise SourceError(
            f"{source}: is not a model directory, the name of a model, an .onnx file, torchvision:NAME[@WEIGHTS] or "
            "PACKAGE.MODULE:FACTORY[@WEIGHTS]"
        )
    with _seeded(seed):
        module = _torchvision(factory, is_random=not weights) if package == "torchvision" else make(package, factory)
    if weights:
        load_weights(module, weights)
    elif package == "torchvision" or _is_untrained(module):
        warnings.warn(
            f"{name} has random weights (seed {seed}); give trained ones as {name}@WEIGHTS",
            stacklevel=2,
        )
    return Loaded(module=module.eval())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed every generator that may draw weights, and restore them afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % _TORCH_SEEDS)
        np.random.seed(seed % _NUMPY_SEEDS)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _is_untrained(module: nn.Module) -> bool:
    """Whether there is batch norm, all with its initial statistics, which training would have changed."""
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm) and child.running_mean is not None]
    return bool(norms) and all(bool((norm.running_mean == 0).all() & (norm.running_var == 1).all()) for norm in norms)


def _torchvision(name: str, *, is_random: bool) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise SourceError(f"torchvision:{name}: {_not_a_classifier(models, name, known)}")
    build = models.get_model_builder(name)
    # Explicit, so that nothing is downloaded, and two old networks do not warn of a change of defaults.
    options: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(build).parameters:
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = is_random
    module: nn.Module = build(**options)
    return module


def _not_a_classifier(models: Any, name: str, known: list[str]) -> str:
    if name in models.list_models():
        package = models.get_model_builder(name).__module__.split(".")[2]
        if package == "quantization":
            return f"is quantized already; name the float network, torchvision:{name.removeprefix('quantized_')}"
        return f"is not an image classifier: it {_OTHER_TASKS.get(package, 'does something else')}"
    close = [entry for entry in known if name.lower()[:6] in entry]
    hint = f"; similar: {', '.join(close[:_SHOWN])}" if close else ""
    return f"torchvision.models has no such network{hint}"


def _other_file(path: Path) -> str:
    """Why an existing file is not a SOURCE, and what to do."""
    if path.suffix == ".py":
        return f"is a Python file; name what makes the network, {path.stem}:FACTORY, its folder in PYTHONPATH"
    if not path.is_file():
        return "is neither a regular file nor a model directory"
    if path.suffix.lower() in (".safetensors", ".bin") or (path.is_file() and _is_pickle(path)):
        return f"holds weights alone, or a pickled module; name the code that makes the network, PACKAGE:FACTORY@{path}"
    if zipfile.is_zipfile(path):
        return "is a TorchScript or exported program; export the network with torch.onnx.export and give the .onnx file"
    return "is neither a model directory nor an .onnx file"


def _is_pickle(path: Path) -> bool:
    """Whether ``torch.save`` wrote it: a pickle, in a zip archive since PyTorch 1.6."""
    with path.open("rb") as file:
        if file.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
            return True
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return False
    # TorchScript has its code beside its data.
    return any(name.endswith("data.pkl") for name in names) and not any("/code/" in name for name in names)
