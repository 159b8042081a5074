"""Stores the fastest kernel of each layer, for a network and a GPU."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import nybble
from nybble.backends.cuda.device import Device
from nybble.backends.cuda.source import source_hash
from nybble.cache import cache_folder
from nybble.files import OWN, caching, write_text
from nybble.graph import Graph
from nybble.graph.digest import model_digest
from nybble.graph.expansion import expand


class TunedKernelsWarning(UserWarning):
    """A file of tuned choices for a GPU is ignored."""


def is_enabled() -> bool:
    """Whether tuned choices may be used: always, unless ``NYBBLE_TUNED`` is 0."""
    return os.environ.get("NYBBLE_TUNED", "1") != "0"


def tuned_path(graph: Graph, device: Device) -> Path:
    """Path of the choices for a network on a GPU, whether the file exists or not."""
    return _folder() / f"{hashlib.sha256(json.dumps(_key(graph, device)).encode()).hexdigest()[:32]}.json"


def save_kernels(graph: Graph, device: Device, kernels: Mapping[str, str]) -> Path:
    """Store choices, by the value that each convolution writes. Replaces earlier ones."""
    path = tuned_path(graph, device)
    with caching(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {"key": _key(graph, device), "kernels": dict(kernels)}
        write_text(path, json.dumps(document, indent=1) + "\n", OWN)
    return path


def load_kernels(graph: Graph, device: Device) -> dict[str, str] | None:
    """The stored choices, or ``None``. A file that cannot be read causes a warning, never an error."""
    try:
        if not any(_folder().iterdir()):
            return None
        path = tuned_path(graph, device)
        if not path.is_file():
            return None
        kernels = json.loads(path.read_bytes())["kernels"]
        if not all(isinstance(name, str) and isinstance(kernel, str) for name, kernel in kernels.items()):
            raise ValueError("kernels must map names to names")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        warn_ignored(error)
        return None
    return dict(kernels)


def warn_ignored(error: Exception) -> None:
    """Warn that stored choices are ignored, and name the remedy."""
    warnings.warn(
        f"the kernels stored in {_folder()} are not used: {error}; nybble tune --device cuda stores new ones",
        TunedKernelsWarning,
        stacklevel=2,
    )


def _folder() -> Path:
    return cache_folder() / "gpu-tuned"


def _key(graph: Graph, device: Device) -> list[str]:
    return [model_digest(expand(graph)), device.name, source_hash(), nybble.__version__]
