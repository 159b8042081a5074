"""The documentation site: it builds without a warning, its links lead somewhere, it loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="needs Sphinx: make docs installs it")
pytest.importorskip("torch", reason="needs torch: pip install 'nybble[quantize]'")

import nybble
import nybble.quantize
from chromium import browser

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: Attributes by which an element loads something, or leads somewhere.
_LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href"), ("use", "href")}
_LEADS = {("a", "href")}
#: Links that only say what a page is.
_NOT_LOADED = {"index", "search", "next", "prev", "author", "canonical"}

pytestmark = pytest.mark.slow


class _Links(HTMLParser):
    """What a page loads, where it leads, and the names within it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if name := given.get("id"):
            self.names.add(name)
        for key, value in attrs:
            if value is None or (tag == "link" and given.get("rel") in _NOT_LOADED):
                continue
            if (tag, key) in _LOADS:
                self.loads.append(value)
            elif (tag, key) in _LEADS:
                self.leads.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-b", "html"]
    done = subprocess.run([*command, DOCS, out], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Links]:
    return {path: _Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in {"http", "https", "ftp"}


def _loaded(site: Path, pages: dict[Path, _Links]) -> Iterator[tuple[Path, str]]:
    for path, links in pages.items():
        for address in links.loads:
            yield path, address
        for address in re.findall(r"@import|url\(([^)]*)\)", path.read_text(encoding="utf-8")):
            yield path, address.strip("'\"")
    for path in site.rglob("*.css"):
        for address in re.findall(r"url\(([^)]*)\)|@import\s+([^;]+)", path.read_text(encoding="utf-8")):
            yield path, "".join(address).strip("'\" ")


def test_every_page_is_built(pages: dict[Path, _Links], site: Path) -> None:
    made = {path.relative_to(site).with_suffix("").as_posix() for path in pages}
    assert made >= {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}


def test_nothing_comes_from_elsewhere(site: Path, pages: dict[Path, _Links]) -> None:
    wrong = [(path.name, address) for path, address in _loaded(site, pages) if _elsewhere(address)]
    assert wrong == []


def test_links_lead_somewhere(site: Path, pages: dict[Path, _Links]) -> None:
    wrong = []
    for path, links in pages.items():
        for address in links.loads + links.leads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            names = pages[target].names if target in pages else None
            lost = names is not None and parts.fragment and unquote(parts.fragment) not in names
            if not target.is_relative_to(site) or not target.exists() or lost:
                wrong.append((path.name, address))
    assert wrong == []


def test_the_api_has_every_public_name(site: Path) -> None:
    shown = "".join((site / "api" / f"{name}.html").read_text(encoding="utf-8") for name in _api_pages())
    missing = [
        f"{module.__name__}.{name}"
        for module in (nybble, nybble.quantize)
        for name in module.__all__
        if not re.search(rf'id="nybble[\w.]*\.{name}"', shown)
    ]
    assert missing == []


def test_the_comparison_names_tests_that_exist() -> None:
    text = (DOCS / "compare.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/.]+)`", text)
    assert len(named) > 8 and [name for name in named if not (DOCS.parent / name).exists()] == []


def _api_pages() -> list[str]:
    return [path.stem for path in (DOCS / "api").glob("*.md")]


def test_search_needs_no_network(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.open(f"{(site / 'search.html').as_uri()}?q=winograd", 1000)
        page.call(
            "Runtime.evaluate",
            expression="new Promise((found, lost) => { let left = 300; const look = () => {"
            "if (document.querySelector('#search-results li a')) found(); else if (left--) setTimeout(look, 100);"
            "else lost(new Error('no result')); }; look(); })",
            awaitPromise=True,
        )
        assert page.value("document.querySelectorAll('#search-results li a').length") > 0
        assert all(address.startswith("file:") for address in page.requests())
