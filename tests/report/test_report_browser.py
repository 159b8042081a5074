"""The report in a browser: no complaints, no requests, nothing wider than the window, everything by keyboard."""

from __future__ import annotations

from pathlib import Path

import documents
import pytest
from PIL import Image

from chromium import Page, browser
from nybble.report import read_material, write_report

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

#: What takes part in the order of the keyboard, and whether it can be seen when it has the focus.
FOCUSED = """
(() => {
  const it = document.activeElement, box = it.getBoundingClientRect();
  if (it === document.body) return null;
  return [it.tagName, it.textContent.trim().slice(0, 30), box.width > 0 && box.height > 0];
})()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = documents.write(
        tmp_path_factory.mktemp("report") / "results",
        bench=documents.bench(),
        evaluate=documents.evaluation(),
        profile=documents.profile(),
        calibration=documents.calibration(),
        result=documents.quantization(),
    )
    documents.write_submission(folder / "box")
    path = folder.parent / "report.html"
    write_report(path, read_material([folder]), "2026-11-26")
    return path


def background(page: Page) -> str:
    return str(page.value("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_opens(report: Path, tmp_path: Path, width: int, dark: bool) -> None:
    with browser(tmp_path / "profile") as page:
        page.open(report, width, dark=dark)
        page.value("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        assert page.value("document.documentElement.scrollWidth") == width
        # Pictures lie within their frames, and tables scroll in their own.
        assert (
            page.value("[...document.querySelectorAll('svg.chart')].filter((each) => each.clientWidth > 0).length") >= 8
        )
        outside = page.value(
            "[...document.querySelectorAll('svg text, figcaption, .facts div')].filter((each) => {"
            " const box = each.getBoundingClientRect(); return box.width && (box.left < 0 || box.right > innerWidth); }"
            ").map((each) => each.textContent)"
        )
        assert outside == []
        assert background(page) == ("rgb(21, 23, 27)" if dark else "rgb(251, 250, 247)")
        # A bar of four bits has its colour of the theme.
        blue = "rgb(108, 178, 240)" if dark else "rgb(11, 95, 165)"
        assert (
            page.value(
                "getComputedStyle([...document.querySelectorAll('#throughput svg path')]"
                ".find((each) => each.style.fill === 'var(--four)')).fill"
            )
            == blue
        )
        page.screenshot(tmp_path / "page.png")
        assert page.complaints() == []
        assert page.requests() == []
    with Image.open(tmp_path / "page.png") as picture:
        assert picture.width == width
        assert picture.height > 3000
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 100


def test_everything_is_reached_by_keyboard(report: Path, tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as page:
        page.open(report, 390)
        links = page.value("document.querySelectorAll('nav a').length")
        folded = page.value("document.querySelectorAll('summary').length")
        assert links >= 10
        assert folded >= 8
        reached = []
        for _ in range(200):
            page.press("Tab")
            focused = page.value(FOCUSED)
            if focused is None or (reached and focused == reached[0]):
                break
            assert focused[2], focused
            reached.append(focused)
            if focused[0] == "SUMMARY":
                page.press("Enter")
        names = [name for name, _, _ in reached]
        assert names.count("A") == links + 1  # The first leads past the header.
        assert names.count("SUMMARY") == folded == page.value("document.querySelectorAll('details[open]').length")
        assert names.count("DIV") == page.value("document.querySelectorAll('.scroll').length")
