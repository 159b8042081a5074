"""The page in a browser: it classifies a photo, asks this server only, and fits a phone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from servers import PATIENCE, Running, photo

from chromium import Page, browser

DROP = """
(async () => {
  const bytes = Uint8Array.from(atob("%s"), (each) => each.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], "<b>noise</b>.png", { type: "image/png" }));
  files.items.add(new File([bytes.slice(0, 99)], "bad.png", { type: "image/png" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
})()
"""


def wait(page: Page, expression: str) -> None:
    until = time.monotonic() + PATIENCE
    while not page.value(expression):
        assert time.monotonic() < until, page.value("document.body.innerText")
        time.sleep(0.05)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_it_answers(server: Running, tmp_path: Path, width: int, dark: bool) -> None:
    import base64

    with browser(tmp_path / "profile") as page:
        page.open(f"{server.url}/", width, dark=dark)
        wait(page, "document.getElementById('model').value === 'tiny'")
        page.value(DROP % base64.b64encode(photo()).decode())
        wait(page, "document.getElementById('status').textContent === '2 photos done'")
        assert page.value("document.querySelectorAll('#answers meter').length") == 5
        texts = page.value("[...document.querySelectorAll('#answers > li')].map((each) => each.innerText)")
        assert "photo 0: " in texts[0] and texts[1].startswith("<b>noise</b>.png") and "thing " in texts[1]
        assert page.value("document.documentElement.scrollWidth") == width
        assert page.value("matchMedia('(prefers-color-scheme: dark)').matches") is dark
        # By keyboard: the choices, then the button that opens the file dialog.
        page.value("document.activeElement.blur()")
        order = []
        for _ in range(3):
            page.press("Tab")
            order.append(page.value("document.activeElement.id"))
        assert order == ["model", "top", "drop"]
        page.screenshot(tmp_path / "page.png")
        assert all(url.startswith((f"{server.url}/", "blob:")) for url in page.requests())
        refused = [each for each in page.complaints() if "400" not in str(each)]
        assert not refused
