"""Answers that LoadGen logged, held against labels and against other answers.

``mlperf_log_accuracy.json`` is a list of ``{"seq_id", "qsl_idx", "data"}``: ``data`` is what the system answered for
photo ``qsl_idx``, here a class as int32, in hexadecimal digits. MLPerf Inference v0.5 has the same form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nybble.mlperf.errors import MlperfError
from nybble.mlperf.labels import Labelled
from nybble.mlperf.result import ACCURACY
from nybble.statistics import Share

#: Class by the number of the photo.
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


def read_answers(path: Path) -> dict[int, int]:
    """The classes that a log gives, by the number of the photo.

    Parameters
    ----------
    path : Path
        ``mlperf_log_accuracy.json`` or a folder that has one, or an ``.npz`` with an array ``prediction`` in the order
        of the photos, as ``t4-predictions.npz`` is.

    Returns
    -------
    dict
        Of a photo that comes twice the first answer, as in MLPerf's script.

    Raises
    ------
    MlperfError
        Naming the file and the entry.
    """
    if path.is_dir():
        path = path / ACCURACY
    try:
        return _npz(path) if path.suffix == ".npz" else _log(path)
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
    except Exception as error:  # zipfile and zlib have errors of their own.
        raise MlperfError(f"{path}: is no .npz file: {error}") from error
    if predictions.ndim != 1 or predictions.dtype.kind not in "iu" or not len(predictions):
        raise MlperfError(
            f"{path}: 'prediction' must be a list of integers, is {predictions.dtype} {predictions.shape}"
        )
    return dict(enumerate(predictions.tolist()))


def _log(path: Path) -> dict[int, int]:
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise MlperfError(f"{path}: is no accuracy log: {error}; was the run killed?") from error
    if not isinstance(entries, list):
        raise MlperfError(f"{path}: is no accuracy log: a list of answers is expected")
    answers: dict[int, int] = {}
    for number, entry in enumerate(entries):
        try:
            data = bytes.fromhex(entry["data"])
            if len(data) != 4:
                raise ValueError(f"{len(data)} bytes instead of the 4 of an int32")
            answers.setdefault(int(entry["qsl_idx"]), int.from_bytes(data, "little", signed=True))
        except (KeyError, TypeError, ValueError) as error:
            raise MlperfError(f"{path}: entry {number}: {error}") from error
    if not answers:
        raise MlperfError(f"{path}: has no answers; only accuracy runs log them")
    return answers
