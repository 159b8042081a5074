"""``python -m nybble.backends.cuda.proof BUNDLE --out FILE``; ``tests/gpu/on_device.sh`` runs it."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nybble.backends.cuda.device import Device
from nybble.backends.cuda.proof.bundle import Bundle
from nybble.backends.cuda.proof.run import Proof
from nybble.backends.errors import EngineError
from nybble.files import JSON, check_free, write_text
from nybble.graph.errors import NybbleError

SCHEMA = "nybble-gpu-proof-1"
PARTS = ("probe", "cases", "network", "speed")
#: Tools of compute-sanitizer, each run on the cases, and seconds that one may take.
TOOLS, TOOL_SECONDS = ("memcheck", "racecheck", "initcheck"), 60
#: Exit code of compute-sanitizer if it found an error.
FOUND = 86


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 if everything is correct, 1 if something differs, 2 if nothing could be run."""
    asked = _parser().parse_args(arguments)
    try:
        check_free(asked.out, JSON)
        bundle = Bundle.load(asked.bundle)
        parts = tuple(asked.only.split(",")) if asked.only else PARTS
        unknown = [part for part in parts if part not in PARTS]
        if unknown:
            raise EngineError(f"--only {unknown[0]}: choose from {', '.join(PARTS)}")
        device = open_device(asked.device, bundle)
        begun = time.monotonic()
        found = {"schema": SCHEMA, **_about(device), **Proof(device, bundle, asked.seconds).run(parts)}
        device.close()
        if asked.sanitize:
            found["sanitizer"] = sanitize(asked, asked.seconds - (time.monotonic() - begun))
            found["right"] &= all(
                state == "clean" or state.startswith("skipped") for state in found["sanitizer"].values()
            )
        write_text(asked.out, json.dumps(found, indent=1) + "\n", JSON)
    except NybbleError as error:
        _say(f"error: {error}")
        return 2
    _say(f"{'all results are correct' if found['right'] else 'SOME RESULTS ARE WRONG'}; see {asked.out}")
    return 0 if found["right"] else 1


def open_device(name: str, bundle: Bundle) -> Device:
    """``gpu``, or for tests of this program ``sm_75``, ``sm_80`` or ``sm_90``, emulated."""
    if name == "gpu":
        from nybble.backends.cuda.gpu import GpuDevice

        return GpuDevice(bundle.cubin_for)
    from nybble.backends.cuda.open import open_emulated

    return open_emulated(name)


def sanitize(asked: argparse.Namespace, seconds: float) -> dict[str, str]:
    """Run every kernel under each tool of compute-sanitizer: ``clean``, what was found, or why it did not run."""
    program = shutil.which("compute-sanitizer")
    found = {}
    for tool in TOOLS:
        if program is None:
            found[tool] = "skipped: compute-sanitizer is not in PATH; it is part of the CUDA toolkit"
        elif seconds < TOOL_SECONDS:
            found[tool] = "skipped: no time is left"
        else:
            begun = time.monotonic()
            found[tool] = _sanitized(program, tool, asked)
            seconds -= time.monotonic() - begun
        _say(f"{tool}: {found[tool]}")
    return found


def _sanitized(program: str, tool: str, asked: argparse.Namespace) -> str:
    out = asked.out.with_name(f".{asked.out.name}.{tool}")
    command = [program, "--tool", tool, "--error-exitcode", str(FOUND)]
    command += [sys.executable, "-m", "nybble.backends.cuda.proof", str(asked.bundle), "--out", str(out)]
    command += ["--only", "probe,cases", "--device", asked.device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"skipped: it took more than {TOOL_SECONDS} seconds"
    except OSError as error:
        return f"skipped: {program}: {error.strerror}"
    finally:
        out.unlink(missing_ok=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("=========")]
    if done.returncode == 0:
        return "clean"
    return f"exit code {done.returncode}: " + " | ".join(lines[:20])


def _about(device: Device) -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in ("numpy", "cuda-core", "cuda-bindings"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {"gpu": device.model, "generation": device.generation, "python": platform.python_version(), **packages}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="on_device.sh", description="Tests the kernels of nybble on this GPU and measures their speed."
    )
    parser.add_argument("bundle", type=Path, help="the file that `nybble gpu bundle` wrote")
    parser.add_argument("--out", type=Path, default=Path("on-device.json"), help="the JSON file to write")
    parser.add_argument("--only", help=f"a comma-separated subset of {','.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=400.0, help="time limit: no new part is begun after it")
    parser.add_argument("--device", default="gpu", help="gpu, or sm_75, sm_80 or sm_90 for the emulator")
    parser.add_argument("--sanitize", action="store_true", help="run every kernel under compute-sanitizer as well")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
