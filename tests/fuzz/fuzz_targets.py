"""All fuzz targets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from fuzz_target import Target

#: The module and the class of each target: a module is imported when its target is used.
TARGETS: Mapping[str, tuple[str, str]] = {
    "directory": ("fuzz_graphs", "Directories"),
    "archive": ("fuzz_graphs", "Archives"),
    "onnx": ("fuzz_graphs", "QdqFiles"),
    "float-onnx": ("fuzz_graphs", "FloatFiles"),
    "photo": ("fuzz_photos", "Photos"),
    "labels": ("fuzz_texts", "Labels"),
    "settings": ("fuzz_texts", "Settings"),
    "server": ("fuzz_server", "Requests"),
    "grpc": ("fuzz_server", "Messages"),
    "native": ("fuzz_native", "Calls"),
}


def open_target(name: str) -> Target:
    """A target, ready to run inputs."""
    module, kind = TARGETS[name]
    make: Callable[[], Target] = getattr(import_module(module), kind)
    return make()
