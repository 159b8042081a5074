"""Tuned choices in the user's cache: found by what they depend on, checked before they are used.

A file that is damaged, of another version or not legal for the network is ignored with a warning; what is
legal gives the same results as the defaults, so no file can change a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nybble.cache import cache_folder
from nybble.engine.choices import ChoiceError, Choices, check
from nybble.engine.order import order_classes
from nybble.files import OWN, FileError, caching, write_text
from nybble.graph import Graph, Tensor
from nybble.lower import expand, fuse

#: The form of the file; another one is not read.
FORMAT = 1
#: Set to 0, no tuned choice is used.
VARIABLE = "NYBBLE_TUNED"


@dataclass(frozen=True)
class Key:
    """What choices depend on: the model's content, processor, instruction set, threads, nybble's version."""

    model: str
    cpu: str
    isa: str
    threads: int
    nybble: str


class TunedChoicesWarning(UserWarning):
    """A file of tuned choices that is not used, and why."""


def is_enabled() -> bool:
    """Whether tuned choices may be used: unless ``NYBBLE_TUNED`` is 0."""
    return os.environ.get(VARIABLE, "1") != "0"


def load_choices(graph: Graph, isa: str, threads: int) -> Choices | None:
    """The choices stored for a network on this machine, or ``None``.

    A file that cannot be used is a :class:`TunedChoicesWarning`, never an error. Where nothing was ever tuned
    this costs one look at a folder.
    """
    try:
        if not any(folder().iterdir()):
            return None
        key = make_key(graph, isa, threads)
        path = path_of(key)
        if not path.exists():
            return None
    except OSError:
        return None
    try:
        return _read(path, key, expand(graph))
    except (OSError, ValueError, ChoiceError) as error:
        warn_ignored(path, error)
        return None


def warn_ignored(what: Path | str, why: Exception) -> None:
    """Warn in one line that choices are not used."""
    reason = " ".join(str(why).split())[:200] or type(why).__name__
    text = f"{what}: tuned choices are ignored: {reason}; `nybble tune` writes them anew"
    warnings.warn(text, TunedChoicesWarning, stacklevel=4)


def save_choices(graph: Graph, isa: str, threads: int, choices: Choices) -> Path:
    """Store choices for a network on this machine; returns the file.

    Raises
    ------
    ChoiceError
        If a choice is not legal.
    FileError
        If the cache folder cannot be written.
    """
    from nybble.engine.stored import StoredChoices

    graph = expand(graph)
    check(graph, isa, choices)
    key = make_key(graph, isa, threads)
    orders = {
        values[0]: choices.orders[values[0]].tolist()
        for values in order_classes(graph, fuse(graph))
        if values[0] in choices.orders
    }
    stored = StoredChoices(format=FORMAT, key=key, kernels=dict(choices.kernels), orders=orders)
    path = path_of(key)
    check_writable()
    write_text(path, stored.model_dump_json() + "\n", OWN)
    return path


def check_writable() -> None:
    """Make the folder of tuned choices. Raises :class:`FileError` where that cannot be."""
    with caching(folder()):
        folder().mkdir(parents=True, exist_ok=True)
        if not os.access(folder(), os.W_OK):
            raise FileError(f"{folder()}: cannot be written; NYBBLE_CACHE names another folder for the cache")


def folder() -> Path:
    """Where tuned choices lie."""
    return cache_folder() / "tuned"


def path_of(key: Key) -> Path:
    """The file for a key."""
    text = json.dumps(dataclasses.asdict(key), sort_keys=True)
    return folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def make_key(graph: Graph, isa: str, threads: int) -> Key:
    """What tuned choices depend on."""
    from nybble import __version__

    return Key(model=model_digest(expand(graph)), cpu=cpu_identity(), isa=isa, threads=threads, nybble=__version__)


def model_digest(graph: Graph) -> str:
    """SHA-256 of a network's names, attributes, types and constants, as hex; a few hundredths of a second."""
    digest = hashlib.sha256()
    for entry in graph.inputs:
        digest.update(f"{entry!r}\n".encode())
    for node in graph:
        # Tensors show as type and shape here; their bytes follow.
        digest.update(f"{node!r}\n".encode())
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if isinstance(value, Tensor):
                digest.update(value.raw())
    digest.update(f"{graph.outputs!r}\n".encode())
    return digest.hexdigest()


def cpu_identity() -> str:
    """The processor's name and a digest of its flags, where the system tells."""
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


def _read(path: Path, key: Key, graph: Graph) -> Choices:
    from pydantic import ValidationError

    from nybble.engine.stored import Header, StoredChoices

    raw = path.read_bytes()
    try:
        form = Header.model_validate_json(raw).format
        if form != FORMAT:
            raise ChoiceError(f"the file has format {form}, not {FORMAT}")
        stored = StoredChoices.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ChoiceError(f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}") from None
    if stored.key != key:
        raise ChoiceError("the file was written for another model, machine or version")
    classes = {values[0]: values for values in order_classes(graph, fuse(graph))}
    orders = {}
    for name, positions in stored.orders.items():
        if name not in classes:
            raise ChoiceError(f"{name}: the order of this value is not free")
        orders.update(dict.fromkeys(classes[name], np.array(positions, dtype=np.intp)))
    choices = Choices(stored.kernels, orders)
    check(graph, key.isa, choices)
    return choices
