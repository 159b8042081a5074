"""Files of weights: read without running their code, and checked against the module they are for."""

from __future__ import annotations

import importlib.util
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nybble.quantize.errors import MissingExtraError, SourceError

#: Keys under which checkpoints keep their weights.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "ema", "net")
#: Prefixes that wrappers put before every name: DataParallel and DistributedDataParallel, torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
#: How torch names what is neither a tensor nor a plain value.
_STRANGER = re.compile(r"Unsupported (?:global|class): (?:GLOBAL )?([\w.]+)")
#: Names shown in an error.
_SHOWN = 4


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a module.

    A mapping from names to tensors, or a checkpoint that holds one under ``state_dict``, ``model`` and the like, is
    read with ``torch.load(weights_only=True)``, which runs no code of the file; a file that ends in ``.safetensors`` is
    read with the package of that name. Prefixes that wrappers leave (``module.``) are removed.

    Raises
    ------
    SourceError
        Naming the file, and the weights that are missing, left over or of another shape.
    """
    path = Path(path)
    content = _content(path)
    found = _state(content)
    if found is None:
        raise SourceError(f"{path}: holds no mapping from names to tensors; save module.state_dict()")
    _load_state(module, found, path)


def _content(path: Path) -> Any:
    try:
        # Opening a pipe would hang.
        if not path.is_file():
            path.stat()
            raise SourceError(f"{path}: is not a file of weights: it is not a regular file")
        if path.suffix.lower() == ".safetensors":
            return _safetensors(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: there is no such file; nothing is downloaded, so name a file of weights") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, SourceError | MissingExtraError):
            raise
        raise SourceError(
            f"{path}: is not a file of weights that loads without running code: {_reason(error)}; "
            "save module.state_dict()"
        ) from error


def _reason(error: Exception) -> str:
    """Why torch could not load a file, without its advice to load the file by running its code."""
    text = str(error)
    if (stranger := _STRANGER.search(text)) is not None:
        return f"it holds {stranger[1]}"
    if isinstance(error, RuntimeError):
        return text.strip().split("\n")[0][:160]
    return "it is damaged, or of another kind"


def _safetensors(path: Path) -> dict[str, Tensor]:
    if importlib.util.find_spec("safetensors") is None:
        raise MissingExtraError(f"{path}: reading it needs the package safetensors: pip install safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise SourceError(f"{path}: is not a safetensors file, or is damaged: {str(error)[:160]}") from error
    return found


def _load_state(module: nn.Module, found: Mapping[str, Tensor], path: str | Path) -> None:
    wanted = module.state_dict()
    # Counters of batch norm have no effect, and older files lack them.
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in wanted]
    if missing or unknown:
        parts = [f"lacks {_listed(missing)}"] * bool(missing) + [f"has unexpected {_listed(unknown)}"] * bool(unknown)
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


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
