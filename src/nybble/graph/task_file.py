"""The file ``task`` of a model directory, and the same as JSON for an ONNX file."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from nybble.graph.errors import GraphError, ModelFormatError
from nybble.graph.folder import MAX_TEXT, ModelFolder
from nybble.graph.layer_output import LayerOutput
from nybble.graph.lines import LayerFile, LayerText, joined
from nybble.graph.task import MAX_COUNT, TASKS, Task
from nybble.graph.tensor import Tensor
from nybble.graph.types import DType

TASK = "task"
#: The first version of the model directory that has the file.
TASK_VERSION = 3


def read_task(folder: ModelFolder) -> Task | None:
    """The folder's task, ``None`` if it has no such file. Raises :class:`ModelFormatError`."""
    if not folder.has(TASK):
        return None
    return _task_of(folder.layer(TASK), folder)


def read_task_file(path: str | Path) -> Task:
    """The task that a single file states, or that of a model directory.

    Raises
    ------
    ModelFormatError
        Naming the file and the line. Tensors are read from a model directory only.
    """
    place = Path(path)
    if place.is_dir():
        found = read_task(ModelFolder(place))
        if found is None:
            raise ModelFormatError(place, f"has no file {TASK!r}")
        return found
    try:
        with place.open("rb") as file:
            raw = file.read(MAX_TEXT + 1) if place.is_file() else b""
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ModelFormatError(place, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ModelFormatError(place, "is not UTF-8 text") from error
    if not raw or len(raw) > MAX_TEXT:
        raise ModelFormatError(place, f"is no file of 1 to {MAX_TEXT} bytes")
    return _task_of(LayerFile(place, text), None)


def _task_of(file: LayerFile, folder: ModelFolder | None) -> Task:
    if file.kind not in TASKS:
        raise file.error(f"unknown task {file.kind[:40]!r} (known: {', '.join(TASKS)})")
    kind = TASKS[file.kind]
    given = {}
    for entry, shape in _entries(kind):
        needed = entry.default is dataclasses.MISSING
        if file.has(entry.name) or needed:
            given[entry.name] = _read(folder, file, entry.name, shape)
    file.finish()
    try:
        return kind(**given)
    except GraphError as error:
        raise file.error(error.message, key_of(error)) from error


def key_of(error: GraphError) -> str | None:
    """The key of the task that an error is about."""
    return error.field.removeprefix("task.") if error.field is not None else None


def write_task(task: Task) -> LayerOutput:
    """Text and tensors of a task; what has its default is left out."""
    output = LayerOutput(TASK, LayerText(task.label))
    for entry, _ in _entries(type(task)):
        value = getattr(task, entry.name)
        if entry.default is not dataclasses.MISSING and value == entry.default:
            continue
        if isinstance(value, Tensor):
            output.add_tensor(entry.name, value, value.shape)
        else:
            output.text.add(entry.name, joined(value) if isinstance(value, tuple) else value)
    return output


def task_fields(task: Task) -> dict[str, Any]:
    """The fields from which :func:`task_of_fields` makes the task, with values that JSON can hold."""
    made: dict[str, Any] = {"kind": task.label}
    for entry, _ in _entries(type(task)):
        value = getattr(task, entry.name)
        if entry.default is dataclasses.MISSING or value != entry.default:
            made[entry.name] = _plain(value)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy().tolist()
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def task_of_fields(held: dict[str, Any]) -> Task:
    """The task of :func:`task_fields`. Raises ``GraphError``, ``TypeError``, ``KeyError`` or ``ValueError``."""
    held = dict(held)
    kind = TASKS[held.pop("kind")]
    given = {}
    for entry, shape in _entries(kind):
        if entry.name in held:
            given[entry.name] = _checked(held.pop(entry.name), shape)
    if held:
        raise ValueError(f"unknown field {next(iter(held))!r}")
    return kind(**given)


def _entries(kind: type[Task]) -> list[tuple[dataclasses.Field[Any], Any]]:
    """The fields of a kind, and the type of each without ``None``."""
    hints = get_type_hints(kind)
    return [(entry, _without_none(hints[entry.name])) for entry in dataclasses.fields(kind)]


def _without_none(hint: Any) -> Any:
    if isinstance(hint, types.UnionType):
        return next(part for part in get_args(hint) if part is not types.NoneType)
    return hint


def _read(folder: ModelFolder | None, file: LayerFile, key: str, shape: Any) -> Any:
    if get_origin(shape) is tuple:
        element = get_args(shape)[0]
        if element is float:
            return file.numbers(key)
        return file.integers(key, -MAX_COUNT, MAX_COUNT) if element is int else file.words(key)
    if shape is Tensor:
        if folder is None:
            raise file.error("a tensor is read from a model directory only: name the directory", key)
        reference = file.tensor(key, (DType.F32,), 2)
        return folder.tensor(file, key, reference, reference.shape)
    if shape is int:
        return file.integer(key, -MAX_COUNT, MAX_COUNT)
    if shape is float:
        return file.number(key)
    return file.flag(key) if shape is bool else file.text(key)


def _checked(value: Any, shape: Any) -> Any:
    if get_origin(shape) is tuple:
        if not isinstance(value, list | tuple):
            raise TypeError(f"{value!r} is not a list")
        return tuple(_checked(entry, get_args(shape)[0]) for entry in value)
    if shape is Tensor:
        return Tensor.from_array(DType.F32, np.asarray(value, dtype=np.float32))
    if shape is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not shape:
        raise TypeError(f"{value!r} is not of type {shape.__name__}")
    return value
