"""The demo's page: it stands by itself, and everything that was found is in it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from demo_results import LIVE, demo_result
from markup import Page
from PIL import Image

from nybble.demo import DemoError, DemoResult
from nybble.report import render_demo, write_demo

pytest.importorskip("jinja2")


@pytest.fixture
def result(tmp_path: Path) -> DemoResult:
    return demo_result(tmp_path)


def test_nothing_is_loaded_from_anywhere(result: DemoResult) -> None:
    source = render_demo(result)
    page = Page(source)
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "audio", "video"}
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", source))
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_photos_are_in_the_page_and_described(result: DemoResult) -> None:
    images = Page(render_demo(result)).all("img")
    assert [image["alt"] for image in images] == [
        "Photo of a hen",
        "Photo of nothing",
        "Photo of a hen with boxes: hen <i> 70.0 %",
        "Photo of nothing with boxes: no object found",
    ]
    for image in images:
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("JPEG", (640, 213))


def test_all_answers_and_speeds_are_there(result: DemoResult) -> None:
    source = render_demo(result)
    text = Page(source).text
    assert re.search(r"float recorded ✗ wrong not the answer of 4-bit cock 90\.0 % hen 5\.0 %", text)
    assert re.search(r"4-bit run here, now ✓ right hen 62\.0 %", text)
    assert "cock <b> 20.0 %" in text
    assert "not recorded for this photo" in text
    assert "tiny <model>" in text
    assert "87.9 % of its multiplications" in text
    assert "PyTorch & <friends> (recorded); 18.5 MB" in text
    assert "tiny <model>: right, where a class of ImageNet fits 1 of 1" in text
    assert "tiny <model>: same answer as float 0 of 1" in text
    assert "both: right, where a class of ImageNet fits 0 of 1" in text
    assert re.search(r"both cascade run here, now ✗ wrong cock 51\.0 %", text)
    assert "photos on this machine and ran tiny on 2, other on 1 of 2 photos." in text
    for speed in result.speeds:
        assert f" {speed.images_per_second:.1f}" in text
    assert "larger runs 2.00 times as fast in 4 bits as in 8" in text
    assert "b.png: not recorded" in text
    assert "width:62.0%" in source


def test_headings_regions_and_keyboard(result: DemoResult) -> None:
    page = Page(render_demo(result))
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("caption")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    # What scrolls sideways must take the keyboard's focus.
    (scrolling,) = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert (scrolling["tabindex"], scrolling["role"]) == ("0", "region")
    assert "prefers-color-scheme: dark" in render_demo(result)


@pytest.mark.parametrize(("isa", "noted"), [("avx2", False), ("avx512vnni", True)])
def test_vnni_is_mentioned_where_it_ran(result: DemoResult, isa: str, noted: bool) -> None:
    assert ("instructions that multiply 8-bit integers" in render_demo(replace(result, isa=isa))) is noted


@pytest.mark.parametrize(("share", "noted"), [(None, False), (0.05, False), (0.31, True)])
def test_a_busy_machine_is_mentioned(result: DemoResult, share: float | None, noted: bool) -> None:
    text = Page(render_demo(replace(result, disturbance=share))).text
    assert ("other work used 31% of the machine during the measurement; " in text) is noted


def test_a_model_of_other_classes_is_not_judged(result: DemoResult) -> None:
    network = replace(result.networks[0], judged=False, columns=(LIVE,), recorded=None)
    text = Page(render_demo(replace(result, networks=(network,), notes=()))).text
    for word in ("✓", "✗", "right", "so it is said", "recorded"):
        assert word not in text


def test_it_is_written_whole(result: DemoResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out" / "demo.html"
    out.parent.mkdir()
    write_demo(out, result)
    before = out.read_bytes()
    (tmp_path / "a.png").unlink()
    with pytest.raises(Exception, match=r"a\.png"):
        write_demo(out, result)
    assert out.read_bytes() == before
    monkeypatch.setattr("nybble.report.demo_page.has_jinja", lambda: False)
    with pytest.raises(DemoError, match=r"pip install 'nybble\[demo\]'"):
        write_demo(out, result)
    assert [path.name for path in out.parent.iterdir()] == ["demo.html"]
