"""Tuned choices in the user's cache: found by a key of all that they depend on, checked before use.

A file that is damaged, of another version or not legal for the network is ignored with a warning; what is
legal gives the same results as the defaults, so no file can change a result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np

from nybble.backends.cpu.choices import ChoiceError, Choices, check
from nybble.backends.cpu.key import Key, make_key
from nybble.backends.cpu.lowered import lowered
from nybble.backends.cpu.order import order_classes
from nybble.cache import cache_folder
from nybble.files import OWN, FileError, caching, write_text
from nybble.graph import Graph
from nybble.lower import fuse

#: The version of the file; files of another version are not read.
FORMAT = 1
#: The environment variable that disables tuned choices if it is 0.
VARIABLE = "NYBBLE_TUNED"


class TunedChoicesWarning(UserWarning):
    """Warns that a file of tuned choices is not used, and why."""


def is_enabled() -> bool:
    """Whether tuned choices may be used: unless ``NYBBLE_TUNED`` is 0."""
    return os.environ.get(VARIABLE, "1") != "0"


def load_choices(graph: Graph, isa: str, threads: int) -> Choices | None:
    """The choices stored for a network on this machine, or ``None``.

    A file that cannot be used causes a :class:`TunedChoicesWarning`, never an error. If nothing was ever tuned, this
    costs one look-up of a folder.
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
        return _read(path, key, lowered(graph))
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
    from nybble.backends.cpu.stored import StoredChoices

    graph = lowered(graph)
    check(graph, isa, choices)
    key = make_key(graph, isa, threads)
    orders = {
        values[0]: choices.orders[values[0]].tolist()
        for values in order_classes(fuse(graph))
        if values[0] in choices.orders
    }
    stored = StoredChoices(format=FORMAT, key=key, kernels=dict(choices.kernels), orders=orders)
    path = path_of(key)
    check_writable()
    write_text(path, stored.model_dump_json() + "\n", OWN)
    return path


def check_writable() -> None:
    """Make the folder of tuned choices. Raises :class:`FileError` if that fails."""
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


def _read(path: Path, key: Key, graph: Graph) -> Choices:
    from pydantic import ValidationError

    from nybble.backends.cpu.stored import Header, StoredChoices

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
    classes = {values[0]: values for values in order_classes(fuse(graph))}
    orders = {}
    for name, positions in stored.orders.items():
        if name not in classes:
            raise ChoiceError(f"{name}: the order of this value is not free")
        orders.update(dict.fromkeys(classes[name], np.array(positions, dtype=np.intp)))
    choices = Choices(stored.kernels, orders)
    check(graph, key.isa, choices)
    return choices
