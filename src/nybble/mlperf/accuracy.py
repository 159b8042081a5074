"""Compares answers that LoadGen logged with labels and with other answers.

``mlperf_log_accuracy.json`` is a list of ``{"seq_id", "qsl_idx", "data"}``: ``data`` is what the system answered for
photo ``qsl_idx``, in hexadecimal digits. Here it is a class as int32; other systems write other types, which the log
does not name (``--dtype`` of MLPerf's script). MLPerf Inference v0.5 has the same form.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nybble.graph.types import Array
from nybble.mlperf.errors import MlperfError, MlperfWarning
from nybble.mlperf.labels import Labelled
from nybble.mlperf.result import ACCURACY
from nybble.statistics import Share

#: Classes by the number of the photo.
Answers = Mapping[int, int]


class Difference(NamedTuple):
    """A photo to which two logs have different answers; ``photo`` is its number, or its file where that is known."""

    photo: str
    first: int
    second: int


class Comparison(NamedTuple):
    """Photos that both logs answer, those they answer differently, and those that only one has."""

    compared: int
    differences: list[Difference]
    first_only: int
    second_only: int


#: Types that answers may have, by their size. Of several that fit the first is taken.
DTYPES = {
    1: ("uint8", "int8"),
    2: ("int16", "uint16", "float16"),
    4: ("int32", "uint32", "float32"),
    8: ("int64", "uint64", "float64"),
}
#: More classes than any classifier has; numbers that are read as the wrong type mostly exceed it.
_MOST_CLASSES = 1 << 20


def read_answers(path: Path, dtype: str | None = None) -> dict[int, int]:
    """The classes that a log gives, by the number of the photo.

    Parameters
    ----------
    path : Path
        ``mlperf_log_accuracy.json`` or a folder that has one, or an ``.npz`` with an array ``prediction`` in the order
        of the photos, as ``t4-predictions.npz`` is.
    dtype : str, optional
        Type of a log's answers, one of ``DTYPES``; by default the type in which all of them are classes.

    Returns
    -------
    dict
        Of a photo that is answered twice the first answer, as in MLPerf's script, with a :class:`MlperfWarning` if the
        second differs.

    Raises
    ------
    MlperfError
        Naming the file and the entry; also where no type makes all answers classes, or several do and disagree.
    """
    if path.is_dir():
        path = path / ACCURACY
    try:
        return _npz(path) if path.suffix == ".npz" else _log(path, dtype)
    except OSError as error:
        raise MlperfError(f"{path}: cannot be read: {error.strerror or error}") from error


def accuracy(answers: Answers, labels: Sequence[Labelled], name: str = "the log") -> Share:
    """Right answers out of the photos answered, as MLPerf's script counts them: by line of the list.

    Raises
    ------
    MlperfError
        Where the log answers a photo beyond the list.
    """
    if max(answers) >= len(labels):
        raise MlperfError(
            f"{name}: answers photo {max(answers)}, but the list has {len(labels)}; is it the list it ran?"
        )
    return Share(sum(labels[index].label == answer for index, answer in answers.items()), len(answers))


def compare(first: Answers, second: Answers, labels: Sequence[Labelled] | None = None) -> Comparison:
    """The answers of one log beside those of another.

    Parameters
    ----------
    first, second : mapping
        As :func:`read_answers` gives them.
    labels : sequence of Labelled, optional
        The list that the first log ran, where it is a part of ImageNet's validation set: its photo
        ``ILSVRC2012_val_N`` is then number N - 1 of the second, and so in the first where that answers by such numbers.

    Raises
    ------
    MlperfError
        Where no photo is in both, or a file name of the list has no number.
    """
    names = {}
    if labels is not None:
        renamed = {}
        for index, answer in first.items():
            if index >= len(labels):
                raise MlperfError(f"the first log answers photo {index}, but the list has {len(labels)}")
            row = labels[index].row
            if row is None:
                raise MlperfError(f"{labels[index].file}: has no number, as ILSVRC2012_val_00000001.JPEG has")
            renamed[row] = answer
            names[row] = labels[index].file
        first = renamed
    common = sorted(first.keys() & second.keys())
    if not common:
        raise MlperfError("the two logs have no photo in common")
    differences = [
        Difference(names.get(index, str(index)), first[index], second[index])
        for index in common
        if first[index] != second[index]
    ]
    return Comparison(len(common), differences, len(first) - len(common), len(second) - len(common))


def accuracy_text(share: Share, log: Path) -> str:
    """``accuracy.txt`` of a submission: the line of MLPerf's script, and the digest of the log."""
    digest = hashlib.sha256(log.read_bytes()).hexdigest()
    return f"accuracy={100 * share.value:.3f}%, good={share.right}, total={share.total}\nhash={digest}\n"


def _npz(path: Path) -> dict[int, int]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            predictions = arrays["prediction"]
    except (ValueError, KeyError, EOFError) as error:
        raise MlperfError(f"{path}: has no array 'prediction': {error}") from error
    except OSError:
        raise
    except Exception as error:  # zipfile and zlib raise their own exceptions.
        raise MlperfError(f"{path}: is not an .npz file: {error}") from error
    if predictions.ndim != 1 or predictions.dtype.kind not in "iu" or not len(predictions):
        raise MlperfError(
            f"{path}: 'prediction' must be a list of integers, is {predictions.dtype} {predictions.shape}"
        )
    return dict(enumerate(predictions.tolist()))


def _log(path: Path, dtype: str | None) -> dict[int, int]:
    try:
        entries = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise MlperfError(f"{path}: is not an accuracy log: {error}; was the run killed?") from error
    if not isinstance(entries, list):
        raise MlperfError(f"{path}: is not an accuracy log: a list of answers is expected")
    if not entries:
        raise MlperfError(f"{path}: has no answers; only accuracy runs log them")
    photos, answers = zip(*(_entry(path, number, entry) for number, entry in enumerate(entries)), strict=True)
    classes = _classes(path, answers, dtype)
    found: dict[int, int] = {}
    others = 0
    for photo, label in zip(photos, classes, strict=True):
        others += found.setdefault(photo, label) != label
    if others:
        warnings.warn(
            f"{path}: {others} photos are answered again with another class; the first counts",
            MlperfWarning,
            stacklevel=3,
        )
    return found


def _entry(path: Path, number: int, entry: object) -> tuple[int, bytes]:
    """The photo and the bytes of an answer."""
    place = f"{path}: entry {number}"
    if not isinstance(entry, dict) or "qsl_idx" not in entry or "data" not in entry:
        raise MlperfError(f"{place}: has no 'qsl_idx' and 'data'")
    photo, digits = entry["qsl_idx"], entry["data"]
    if isinstance(photo, bool) or not isinstance(photo, int) or photo < 0:
        raise MlperfError(f"{place}: qsl_idx {str(photo)[:40]!r} is not a non-negative integer")
    try:
        return photo, bytes.fromhex(digits)
    except (TypeError, ValueError) as error:
        raise MlperfError(f"{place}: its data is not pairs of hexadecimal digits: {error}") from error


def _classes(path: Path, answers: Sequence[bytes], dtype: str | None) -> list[int]:
    """The answers as classes."""
    size = len(answers[0])
    wanted = np.dtype(dtype).itemsize if dtype is not None else size
    for number, answer in enumerate(answers):
        if len(answer) != wanted:
            before = f"the {wanted} of {dtype}" if dtype is not None else f"the {wanted} before"
            raise MlperfError(f"{path}: entry {number}: has {len(answer)} bytes instead of {before}")
    if wanted not in DTYPES:
        raise MlperfError(f"{path}: entry 0: has {wanted} bytes; expected 1, 2, 4 or 8")
    names = (dtype,) if dtype is not None else DTYPES[wanted]
    read = {name: np.frombuffer(b"".join(answers), np.dtype(name).newbyteorder("<")) for name in names}
    # Some systems have a background class, -1.
    for least in (0, -1):
        fitting = {name: values for name, values in read.items() if _is_class(values, least).all()}
        if fitting:
            break
    else:
        values = read[names[0]]
        number = int(np.argmin(_is_class(values, -1)))
        raise MlperfError(
            f"{path}: entry {number}: {answers[number].hex()} is not a class as {' or '.join(names)}"
            if len(names) > 1
            else f"{path}: entry {number}: {values[number]} is not a class"
        )
    found = {tuple(values.astype(np.int64).tolist()) for values in fitting.values()}
    if len(found) > 1:
        raise MlperfError(f"{path}: the answers could be {' or '.join(fitting)}; choose with --dtype")
    return list(found.pop())


def _is_class(values: Array, least: int) -> Array:
    numbers = values.astype(np.float64) if values.dtype.kind == "f" else values
    result: Array = (numbers >= least) & (numbers < _MOST_CLASSES) & (numbers == np.floor(numbers))
    return result
