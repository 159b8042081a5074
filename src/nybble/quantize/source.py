"""SOURCE strings: what to quantize, named on one line.

``torchvision:resnet50``, ``torchvision:resnet50@weights.pth``, ``package.module:factory``,
``package.module:factory@weights``, or the path of a model directory or of an ONNX file.
"""

from __future__ import annotations

import importlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nybble.graph import Graph, read_graph
from nybble.quantize.errors import SourceError
from nybble.quantize.onnx_source import load_onnx

#: Under what checkpoints keep their weights.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "ema", "net")
#: What wrappers put in front of every name: DataParallel and DistributedDataParallel, torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
#: Names shown in an error.
_SHOWN = 4


@dataclass(frozen=True)
class Loaded:
    """What a SOURCE names: a float module or a graph, the other being ``None``."""

    module: nn.Module | None = None
    graph: Graph | None = None


def load_source(source: str) -> Loaded:
    """Load what a SOURCE names.

    Parameters
    ----------
    source : str
        ``torchvision:NAME[@WEIGHTS]``, ``PACKAGE.MODULE:FACTORY[@WEIGHTS]`` (a function or class that is called without
        arguments, or a module), a model directory, or a file that ends in ``.onnx``. Nothing is downloaded: without
        weights, torchvision's networks have random ones.

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
    """
    if source.endswith(".onnx"):
        return Loaded(module=load_onnx(Path(source)))
    if Path(source).exists():
        return Loaded(graph=read_graph(source))
    name, _, weights = source.partition("@")
    package, colon, factory = name.partition(":")
    if not colon or not package or not factory:
        raise SourceError(
            f"{source}: is no model directory and no .onnx file, and not of the form torchvision:NAME[@WEIGHTS] or "
            "PACKAGE.MODULE:FACTORY[@WEIGHTS]"
        )
    module = _torchvision(factory) if package == "torchvision" else _made(package, factory)
    if weights:
        load_weights(module, weights)
    return Loaded(module=module.eval())


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a module.

    A mapping from names to tensors, or one that lies in a checkpoint under ``state_dict``, ``model`` and the like, is
    read with ``torch.load(weights_only=True)``, which runs no code of the file. Prefixes that wrappers leave
    (``module.``) are taken off.

    Raises
    ------
    SourceError
        Naming the file, and the weights that are missing, left over or of another shape.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise SourceError(f"{path}: is no file of weights that loads without running code: {reason}") from error
    found = _state(content)
    if found is None:
        raise SourceError(f"{path}: holds no mapping from names to tensors; save module.state_dict()")
    _load_state(module, found, path)


def _load_state(module: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> None:
    wanted = module.state_dict()
    # Counters of batch norm say nothing, and older files lack them.
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in wanted]
    if missing or unknown:
        parts = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has {_listed(unknown)} too many"] * bool(unknown)
        raise SourceError(f"{path}: does not fit {type(module).__name__}: it {' and '.join(parts)}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise SourceError(
                f"{path}: {name} has the shape {tuple(tensor.shape)}, but {type(module).__name__} needs "
                f"{tuple(wanted[name].shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise SourceError(f"{path}: {name} holds NaN or infinity")
    module.load_state_dict(dict(found), strict=False)


def _state(content: Any) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping):
        return None
    for name in _CONTAINERS:
        if isinstance(content.get(name), Mapping):
            return _state(content[name])
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        return None
    state = {str(name): value for name, value in content.items()}
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _torchvision(name: str) -> nn.Module:
    from torchvision import models

    try:
        module: nn.Module = models.get_model(name, weights=None)
    except ValueError:
        close = [known for known in models.list_models(module=models) if name.lower()[:6] in known]
        hint = f"; similar: {', '.join(close[:_SHOWN])}" if close else ""
        raise SourceError(f"torchvision:{name}: torchvision.models has no such network{hint}") from None
    return module


def _made(package: str, factory: str) -> nn.Module:
    try:
        found: Any = importlib.import_module(package)
    except ImportError as error:
        raise SourceError(
            f"{package}:{factory}: {package} cannot be imported: {error}; is its folder in PYTHONPATH?"
        ) from error
    for part in factory.split("."):
        if not hasattr(found, part):
            raise SourceError(f"{package}:{factory}: {package} has no {factory}")
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise SourceError(f"{package}:{factory}: is neither a function nor a module, but {type(found).__name__}")
    make: Callable[[], Any] = found
    try:
        module = make()
    except TypeError as error:
        raise SourceError(f"{package}:{factory}: cannot be called without arguments: {error}") from error
    if not isinstance(module, nn.Module):
        raise SourceError(f"{package}:{factory}: returned {type(module).__name__}, not a torch.nn.Module")
    return module


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
