from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nybble.demo import ANSWERS, Answer, DemoError, Form, PhotoAnswers, Recorded, read_answers, write_answers

RECORDED = Recorded(
    network="tiny",
    made="2026-11-26",
    command="python record.py",
    software={"torch": "2"},
    forms={"float": Form(label="float", how="torch", bytes=12)},
    photos={
        "a.png": PhotoAnswers(sha256="0" * 64, answers={"float": [Answer(index=3, name="thing 3", score=0.5)]}),
    },
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path


def test_written_and_read_again(model: Path) -> None:
    write_answers(model / ANSWERS, RECORDED)
    assert read_answers(model) == RECORDED
    assert read_answers(model / "model") == RECORDED
    assert sorted(path.name for path in model.iterdir()) == [ANSWERS, "model"]


def test_a_model_without_answers(model: Path) -> None:
    assert read_answers(model) is None
    assert read_answers(model / "model") is None


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (("version",), 2, "version"),
        (("photos", "a.png", "answers", "float", 0, "score"), 1.5, r"photos\.a\.png\.answers\.float\.0\.score"),
        (("photos", "a.png", "answers", "int8"), [], r"photos\.a\.png\.answers: int8 is not one of the forms"),
        (("forms", "float", "size"), 3, r"forms\.float\.size"),
    ],
)
def test_a_damaged_file_is_named_with_its_field(model: Path, place: tuple[Any, ...], value: object, text: str) -> None:
    document = RECORDED.model_dump()
    *way, last = place
    inner: Any = document
    for step in way:
        inner = inner[step]
    inner[last] = value
    (model / ANSWERS).write_text(json.dumps(document))
    with pytest.raises(DemoError, match=rf"answers\.json: {text}"):
        read_answers(model)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_no_document_at_all(model: Path, content: bytes) -> None:
    (model / ANSWERS).write_bytes(content)
    with pytest.raises(DemoError, match=r"answers\.json: .*write it anew"):
        read_answers(model)
