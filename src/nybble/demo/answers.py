"""Recorded answers, for the sample photos, of the forms of a network that the demo cannot run.

They lie in a file ``answers.json`` beside the folder ``model/`` and are written by a script that has those forms, for
the bundled network ``benchmarks/accuracy/lite0_answers.py``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nybble.demo.errors import DemoError
from nybble.files import JSON, write_text

#: The file's name.
ANSWERS = "answers.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(_Record):
    """A class: its index, its name, and its softmax probability."""

    index: int = Field(ge=0)
    name: str
    score: float = Field(ge=0, le=1)


class Form(_Record):
    """A form of the network, for instance the float one: its label, how it was run, bytes of its constants."""

    label: str
    how: str
    bytes: int = Field(ge=0)


class PhotoAnswers(_Record):
    """The answers to one photo, by the key of the form, likeliest first; ``sha256`` is that of the photo's file."""

    sha256: str
    answers: dict[str, list[Answer]]


class Recorded(_Record):
    """A whole file: ``forms`` by key, in the order to show them; ``photos`` by file name."""

    version: Literal[1] = 1
    network: str
    made: str
    command: str
    software: dict[str, str]
    forms: dict[str, Form]
    photos: dict[str, PhotoAnswers]


def read_answers(model: Path) -> Recorded | None:
    """The answers recorded for a model.

    Parameters
    ----------
    model : Path
        The folder ``model/`` or the one that holds it.

    Returns
    -------
    Recorded or None
        ``None`` where the model brings no such file.

    Raises
    ------
    DemoError
        Naming file and field, if it is not valid.
    """
    holder = model if (model / "model").is_dir() else Path(os.path.realpath(model)).parent
    path = holder / ANSWERS
    if not path.is_file():
        return None
    try:
        recorded = Recorded.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise DemoError(f"{path}: {field}: {first['msg']}; write it anew with the script that made it") from None
    except UnicodeDecodeError:
        raise DemoError(f"{path}: not UTF-8; write it anew with the script that made it") from None
    for name, photo in recorded.photos.items():
        if unknown := photo.answers.keys() - recorded.forms.keys():
            raise DemoError(f"{path}: photos.{name}.answers: {min(unknown)} is not one of the forms")
    return recorded


def write_answers(path: Path, recorded: Recorded) -> None:
    """Write the file, whole or not at all. Raises :class:`FileError`."""
    write_text(path, recorded.model_dump_json(indent=1) + "\n", JSON)
