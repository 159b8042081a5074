"""No page has a violation that axe-core finds, at the widths of a phone, a tablet and a desk, light and dark."""

from __future__ import annotations

import json
from pathlib import Path

import documents
import pytest
from demo_results import demo_result

from chromium import Page, browser
from nybble.report import read_material, write_demo, write_report

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python, which contains axe-core")

pytestmark = pytest.mark.slow


def violations(page: Page) -> list[str]:
    """Rules of axe-core that the open page breaks, with the elements."""
    source = next(Path(axe.__file__).parent.rglob("axe*.js")).read_text(encoding="utf-8")
    page.value(f"{source}; undefined")
    found = page.call(
        "Runtime.evaluate",
        expression="axe.run().then((found) => JSON.stringify(found.violations.map((each) =>"
        " [each.id, each.nodes.map((node) => node.target.join(' ')).slice(0, 3)])))",
        awaitPromise=True,
        returnByValue=True,
    )
    assert "exceptionDetails" not in found, found
    return [f"{name}: {', '.join(targets)}" for name, targets in json.loads(found["result"]["value"])]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = documents.write(
        tmp_path_factory.mktemp("axe") / "results",
        bench=documents.bench(),
        evaluate=documents.evaluation(),
        profile=documents.profile(),
        calibration=documents.calibration(),
        result=documents.quantization(),
        ensemble=documents.ensemble(),
    )
    documents.write_submission(folder / "box")
    path = folder.parent / "report.html"
    write_report(path, read_material([folder]), "2026-11-26")
    return path


@pytest.fixture(scope="module")
def demo_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder / "demo.html", demo_result(folder))
    return folder / "demo.html"


@pytest.mark.parametrize("dark", [False, True])
def test_the_report(report: Path, tmp_path: Path, dark: bool) -> None:
    with browser(tmp_path / "profile") as page:
        page.call("Page.setBypassCSP", enabled=True)
        for width in (390, 768, 1280):
            page.open(report, width, dark=dark)
            page.value("document.querySelectorAll('details').forEach((each) => { each.open = true })")
            assert page.value("document.documentElement.scrollWidth") == width
            assert violations(page) == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_demo(demo_page: Path, tmp_path: Path, dark: bool) -> None:
    with browser(tmp_path / "profile") as page:
        page.call("Page.setBypassCSP", enabled=True)
        for width in (390, 768, 1280):
            page.open(demo_page, width, dark=dark)
            page.value("document.querySelectorAll('details').forEach((each) => { each.open = true })")
            assert page.value("document.documentElement.scrollWidth") == width
            assert violations(page) == []
            first = page.value(
                "[...document.querySelectorAll('.forms')].map((all) => [...all.children].sort((one, other) =>"
                " one.getBoundingClientRect().top - other.getBoundingClientRect().top"
                " || one.getBoundingClientRect().left - other.getBoundingClientRect().left)[0].className)"
            )
            assert width > 500 or all("main" in names for names in first)
