"""What this installation and this machine can do, for ``nybble doctor``."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nybble import models, published
from nybble.cache import cache_folder

#: Extras of the package: what each is for, and the modules by which it is recognised.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "demo": ("nybble demo", ("jinja2", "skimage")),
    "report": ("nybble report", ("jinja2", "matplotlib")),
    "onnx": ("nybble export, nybble import", ("onnx",)),
    "bench": (
        "nybble bench against other engines",
        ("onnx", "onnxruntime", "openvino", "nncf", "ncnn", "ai_edge_litert"),
    ),
    "mlperf": ("nybble mlperf run", ("mlperf_loadgen",)),
    "serve": ("nybble serve", ("fastapi", "grpc", "prometheus_client", "uvicorn", "python_multipart")),
    "batch": ("nybble batch with Parquet files", ("pyarrow",)),
    "ray": ("nybble batch --ray", ("ray", "pyarrow")),
    "text": ("nybble predict, places of text", ("cv2", "pyclipper")),
    "video": ("nybble predict, videos", ("av",)),
    "quantize": ("nybble quantize", ("torch", "torchvision", "onnx", "matplotlib", "yaml", "tensorboard")),
    "cuda13": ("--device cuda; cuda12 for a driver of CUDA 12", ("cuda.core", "cuda.bindings")),
}
#: Variables of the environment that change what nybble does.
_PREFIX = "NYBBLE_"


@dataclass(frozen=True)
class Finding:
    """A cause that keeps nybble from running, or from running fast.

    Attributes
    ----------
    is_fatal : bool
        Networks cannot run at all.
    what, remedy : str
    """

    is_fatal: bool
    what: str
    remedy: str


def examine() -> dict[str, Any]:
    """Look at the installation and the machine.

    Returns
    -------
    dict
        ``nybble``, ``python``, ``system``; ``processor`` (name, usable CPUs, flags); ``instruction_sets``: those
        ``available``, best last, and by name what this processor lacks for others that were built (``missing``);
        ``speed``: what to expect of 4 bits here; ``extras``: by name, the command that needs it and the modules that
        are missing; ``models``, ``cache``, ``variables``; ``findings``: as :class:`Finding`.
    """
    found: dict[str, Any] = {
        "nybble": _version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "extras": _extras(),
        "models": _models(),
        "cache": str(cache_folder()),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIX)},
    }
    findings = _findings_of_models()
    try:
        found |= _processor()
    except ImportError as error:
        found |= {"processor": None, "instruction_sets": None, "speed": None}
        findings.append(Finding(True, f"the compiled part cannot be loaded: {error}", "install nybble again"))
    else:
        if found["instruction_sets"]["available"] == ["scalar"]:
            findings.append(
                Finding(
                    False, "no vector instructions are used", "use a processor with AVX2 or NEON, and check the build"
                )
            )
    found["findings"] = [vars(finding) for finding in findings]
    return found


def _version() -> str | None:
    try:
        return version("nybble")
    except PackageNotFoundError:
        return None


def _processor() -> dict[str, Any]:
    from nybble.bench import isas, machine

    described = machine.describe()
    available = isas.available()
    had = frozenset().union(*map(isas.features, available))
    return {
        "processor": {name: described[name] for name in ("cpu", "family_model", "usable_cpus", "flags", "byte_tiles")},
        "instruction_sets": {
            "available": available,
            "missing": {isa: sorted(isas.features(isa) - had) for isa in isas.built() if isa not in available},
        },
        "speed": _speed(available, described["byte_tiles"]),
    }


def _speed(available: list[str], byte_tiles: bool) -> str:
    """What the measurements in the README imply for a processor with these instruction sets."""
    if byte_tiles:
        return "AMX computes 8-bit products faster than any 4-bit kernel here: use 8 bits in an engine that has AMX"
    if any(isa.endswith("vnni") for isa in available):
        return (
            "8 bits have instructions of their own (VNNI): 4 bits gain little or nothing, so measure with nybble bench"
        )
    if "avx2" in available:
        return "no VNNI: 4 bits were about twice as fast as the best INT8 peer on such processors (README)"
    if "neon" in available:
        return "ARM: never measured on hardware (docs/arm.md)"
    return "scalar code only: slow"


def _extras() -> dict[str, dict[str, Any]]:
    return {
        name: {"for": purpose, "missing": [module for module in modules if not _is_there(module)]}
        for name, (purpose, modules) in EXTRAS.items()
    }


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # The package around it is missing.
        return False


def _models() -> dict[str, str | None]:
    """Where the models that have a name lie; ``None`` where one is not here."""

    def place(name: str) -> Path | None:
        return published.cached(name) if name in published.available() else models.bundled(name)

    return {name: str(path) if (path := place(name)) else None for name in models.names()}


def _findings_of_models() -> list[Finding]:
    findings = []
    missing = [name for name in (*models.NETWORKS, models.CASCADE) if models.bundled(name) is None]
    if missing:
        findings.append(Finding(False, f"bundled models are missing: {', '.join(missing)}", "install nybble again"))
    try:
        models.find(ensembles=True)
    except models.ModelNotFoundError as error:
        findings.append(Finding(False, str(error), f"set or unset {models.MODEL_VARIABLE}"))
    return findings
