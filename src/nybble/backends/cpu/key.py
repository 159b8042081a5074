"""The key of tuned choices: everything that they depend on."""

from __future__ import annotations

import hashlib
import itertools
import platform
from dataclasses import dataclass
from pathlib import Path

from nybble.graph import Graph
from nybble.graph.digest import model_digest
from nybble.lower import expand


@dataclass(frozen=True)
class Key:
    """The parts of the key: the model's content, processor, instruction set, threads, nybble's version."""

    model: str
    cpu: str
    isa: str
    threads: int
    nybble: str


def make_key(graph: Graph, isa: str, threads: int) -> Key:
    """The key for a network on this machine."""
    import nybble

    return Key(
        model=model_digest(expand(graph)), cpu=cpu_identity(), isa=isa, threads=threads, nybble=nybble.__version__
    )


def cpu_identity() -> str:
    """The processor's name and a digest of its flags, where the system reports it."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            # The first processor's: of many they take long to list.
            for line in itertools.takewhile(str.strip, lines):
                label, _, value = line.partition(":")
                match label.strip():
                    case "model name":
                        name = value.strip()
                    case "flags" | "Features":
                        flags = " ".join(sorted(value.split()))
    except OSError:
        return name
    return f"{name} {hashlib.sha256(flags.encode()).hexdigest()[:16]}"
