"""Metrics of networks that do not classify, on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import documents
import pytest

from nybble.report import read_material
from nybble.report.errors import ReportError
from nybble.report.sections.tasks import tasks


def evaluation(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "nybble-evaluate-task/1",
        "model": "fastestdet",
        "task": "detect",
        "folder": "some/detect-coco",
        "images": 64,
        "noise": None,
        "metrics": {
            "AP": {"value": 0.219, "low": 0.17, "high": 0.27},
            "PSNR": {"value": 28.79, "low": 27.5, "high": None},
        },
        "images_per_second": 30.0,
        **changes,
    }


def test_metrics_have_their_intervals(tmp_path: Path) -> None:
    documents.write(tmp_path / "results", evaluate=evaluation())
    section = tasks(read_material([tmp_path / "results"]))
    assert section is not None
    (table,) = section.tables
    ap, psnr = ([None if cell is None else str(cell) for cell in row] for row in table.rows)
    assert ap[:5] == ["fastestdet", "detect", "detect-coco", "64", "AP"]
    assert [cell.split("\N{NARROW NO-BREAK SPACE}")[0] for cell in ap[5:] if cell] == ["21.9", "17.0", "27.0"]
    assert psnr[4:] == ["PSNR", "28.79", "27.50", None]


def test_others_have_no_such_section(tmp_path: Path) -> None:
    documents.write(tmp_path / "results", evaluate=documents.evaluation())
    assert tasks(read_material([tmp_path / "results"])) is None


def test_a_damaged_document_names_its_field(tmp_path: Path) -> None:
    documents.write(tmp_path / "results", evaluate=evaluation(metrics={"AP": {"value": "much"}}))
    with pytest.raises(ReportError, match=r"field metrics\.AP\.value"):
        read_material([tmp_path / "results"])
