"""What a report finds in folders, and what it says where there is nothing or something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import documents
import pytest

from nybble.report import ReportError, read_material
from nybble.report.records import Bench, Calibration, Evaluation, Profile, Quantization


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "results"
    path.mkdir()
    return path


def test_documents_are_known_by_what_they_say(folder: Path) -> None:
    everything = {
        "a": documents.bench(),
        "deep__b": documents.evaluation(),
        "deep__deeper__c": documents.profile(),
        "d": documents.calibration(),
        "e": documents.quantization(),
    }
    for document in everything.values():
        del document["schema"]  # As versions before wrote them.
    documents.write(folder, **everything, other={"hello": 1}, list=[1, 2])
    (folder / "notes.txt").write_text("{ not JSON")
    (folder / ".hidden.json").write_text("{ not JSON")
    (source,) = read_material([folder]).sources
    assert {name: type(record) for name, record in source.records.items()} == {
        "a.json": Bench,
        "deep/b.json": Evaluation,
        "deep/deeper/c.json": Profile,
        "d.json": Calibration,
        "e.json": Quantization,
    }
    assert source.ignored == ["list.json", "notes.txt", "other.json"]


def test_the_same_file_twice_is_one(folder: Path) -> None:
    documents.write(folder, model__result=documents.quantization(), report__result=documents.quantization())
    assert len(read_material([folder]).quantizations) == 1


def test_a_submission_is_found_wherever_it_begins(folder: Path) -> None:
    documents.write_submission(folder / "runs" / "box", "SingleStream")
    documents.write_submission(folder / "runs" / "box" / ".partial-17", "Server")
    material = read_material([folder])
    (found,) = material.scenarios
    assert found.record.name == "SingleStream"
    assert found.record.performance is not None
    assert found.record.performance.figure == 9.91
    assert found.record.accuracy == (443, 500)
    assert found.record.run is not None
    assert found.record.run.request.name == "efficientnet-lite0"
    assert material.sources[0].ignored == []
    assert len(read_material([folder / "runs" / "box" / "open"]).scenarios) == 1


def test_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("one/run", "two/run", "three"):
        documents.write(tmp_path / name, x=documents.evaluation())
    labels = [source.label for source in read_material([tmp_path / "one/run", tmp_path / "three"]).sources]
    assert labels == ["run", "three"]
    material = read_material([tmp_path / "one/run", tmp_path / "two/run"])
    assert [evaluation.label for evaluation in material.evaluations] == ["one/run", "two/run"]


def test_files_of_a_kind_are_told_apart(folder: Path) -> None:
    documents.write(folder, slow=documents.profile(), fast=documents.profile(tuned=True))
    assert [profile.label for profile in read_material([folder]).profiles] == ["fast", "slow"]


def wrong(document: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (documents.evaluation(schema="nybble-evaluate/9"), r"x\.json: field schema: 'nybble-evaluate/9' is not known"),
        (documents.evaluation(images="many"), r"x\.json: field images: .*nybble-evaluate/1"),
        (wrong(documents.bench(), "runs", 2, "latency", "p99", value=None), r"x\.json: field runs\.2\.latency\.p99: "),
        (wrong(documents.profile(), "layers", 1, "seconds", value="x"), r"x\.json: field layers\.1\.seconds: "),
        (wrong(documents.calibration(), "tensors", "add", "range", value=[]), r"x\.json: field tensors\.add\.range: "),
    ],
)
def test_a_wrong_field_is_named(folder: Path, document: dict[str, Any], message: str) -> None:
    documents.write(folder, x=document)
    with pytest.raises(ReportError, match=message):
        read_material([folder])


@pytest.mark.parametrize("text", ['{"runs": [', '{"top1": NaN}', "", "\x00"])
def test_what_is_no_json_is_named(folder: Path, text: str) -> None:
    (folder / "cut.json").write_text(text)
    with pytest.raises(ReportError, match=r"cut\.json: is not JSON: .*cut short\?"):
        read_material([folder])


def test_logs_that_are_damaged_are_named(folder: Path) -> None:
    documents.write_submission(folder)
    (text,) = folder.rglob("accuracy.txt")
    text.write_text("accuracy=0%, good=3, total=2\n")
    with pytest.raises(ReportError, match=r"accuracy\.txt: has no `good=`"):
        read_material([folder])
    text.unlink()
    (run,) = folder.rglob("run.json")
    run.write_text(json.dumps({"photos": 3}))
    with pytest.raises(ReportError, match=r"run\.json: field nybble: field required"):
        read_material([folder])


def test_a_folder_without_anything_says_what_was_looked_for(folder: Path) -> None:
    (folder / "photo.jpg").write_bytes(b"\xff")
    with pytest.raises(ReportError, match=r"results: has nothing to report on among 1 files; looked for .*bench MODEL"):
        read_material([folder])
    with pytest.raises(ReportError, match=r"nowhere: is not a folder"):
        read_material([folder / "nowhere"])
    documents.write(folder, x=documents.evaluation())
    with pytest.raises(ReportError, match="named twice"):
        read_material([folder, folder])
