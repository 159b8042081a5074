"""The report's page and its files: all numbers are those of the documents, and nothing in them becomes markup."""

from __future__ import annotations

import csv
import html
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import documents
import pytest
from markup import Page
from PIL import Image

from nybble.report import Material, ReportError, read_material, render_report, write_figures, write_report
from nybble.report.drawing import DRAWN, WIDE, WIDTH, inline
from nybble.report.palette import BITS, COLOURS, METHODS, OTHER
from nybble.report.sections import sections
from nybble.report.sections.section import table
from nybble.statistics import Share

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

#: A cell without anything.
NONE = "\N{EN DASH}"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("whole") / f"all {documents.EVIL.replace('/', '')}"
    documents.write(
        folder,
        bench=documents.bench(),
        evaluate=documents.evaluation(),
        profile=documents.profile(),
        calibration=documents.calibration(),
        ensemble=documents.ensemble(),
        result=documents.quantization(),
    )
    (folder / f"{documents.EVIL.replace('/', '')}.txt").write_text("nothing")
    for scenario in ("Offline", "MultiStream"):
        documents.write_submission(folder / "box", scenario, valid=scenario != "Offline")
    return read_material([folder])


@pytest.fixture(scope="module")
def source(material: Material) -> str:
    return render_report(material, "2026-11-26")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_nothing_is_loaded_from_anywhere(source: str, page: Page) -> None:
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "audio", "video", "image", "foreignobject"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                assert (value or "").startswith(("data:", "#")), (tag, attributes)
    bare = source.replace("url(#", "")
    assert not re.search(r"https?:|url\(|@import", bare)
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert (policy or "").startswith("default-src 'none'")


def test_names_are_text_and_never_markup(source: str, page: Page) -> None:
    assert "<script" not in source
    assert source.count("&lt;script&gt;") > 10
    assert documents.EVIL in page.text
    # A dollar begins no formula in a picture.
    assert "$x_1$" in page.text


def test_every_section_is_there_and_reachable(page: Page) -> None:
    keys = ["throughput", "ratios", "latency", "accuracy", "memory", "scenarios", "layers", "roofline", "calibration"]
    keys.insert(keys.index("memory"), "ensembles")
    assert [attributes["id"] for attributes in page.all("section")] == [*keys, "machine", "files"]
    assert len(page.all("h1")) == len(page.all("main")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
    for attributes in page.all("svg"):
        assert attributes["role"] == "img"
    for attributes in [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]:
        assert (attributes["tabindex"], attributes["role"]) == ("0", "region")
    assert "and what would add it" not in page.text


def rows(page: Page, table: str, first: object) -> list[list[Any]]:
    found = [row for row in page.tables[f"table-{table}"] if row[0] == first]
    assert found, (table, first, page.tables[f"table-{table}"])
    return found


def test_speeds_and_memory_are_those_of_the_file(page: Page) -> None:
    document = documents.bench()
    runs = iter(page.tables["table-throughput"][1:])
    peaks = iter(page.tables["table-memory"][1:])
    latencies = iter(page.tables["table-latency"][1:])
    for run in document["runs"]:
        spread = run["images_per_second_spread"]
        name, *numbers = next(runs)
        assert name == run["contestant"] + (" (WRONG)" if run["wrong"] else "")
        assert numbers == [
            run["batch"],
            run["images_per_second"],
            *spread["quartiles"],
            *spread["extremes"],
            2,
            "DISTURBED",
        ]
        assert next(peaks) == [run["contestant"], run["batch"], run["peak_rss_bytes"]]
        if run["mode"] == "latency":
            assert next(latencies) == [run["contestant"], run["batch"], *run["latency"].values(), "DISTURBED"]
    ratio = document["ratios"]["int4_vs_best_int8_peer"]
    best, single = rows(page, "ratios", "4 bits to best INT8 peer")
    spread = ratio["best_batch_spread"]
    assert best[2:7] == [ratio["best_batch"], *spread["quartiles"], *spread["extremes"]]
    assert single[2] == ratio["batch_1"]
    assert not [row for row in page.tables["table-ratios"] if row[0] == "4 bits to best FP32 peer"]


def test_accuracy_has_its_interval(page: Page) -> None:
    low, high = Share(443, 500).interval
    (row,) = [row for row in page.tables["table-accuracy"] if row[1] == "efficientnet-lite0"]
    assert row == ["500 photos of photos-500", "efficientnet-lite0", 0.886, low, high, 443, 500, 0.978]
    (logged,) = [row for row in page.tables["table-accuracy"] if row[1] == "efficientnet-lite0, MLPerf"]
    assert logged == [row[0], "efficientnet-lite0, MLPerf", *row[2:7], NONE]
    (four,) = [row for row in page.tables["table-accuracy"] if row[1] == "nybble 4-bit"]
    assert four == ["64 photos of a folder", "nybble 4-bit", 0.875, *Share(56, 64).interval, 56, 64, NONE]
    (against,) = page.tables["table-accuracy-against-float"][1:]
    assert against == ["torchvision:resnet18, integer engine", -0.01, -0.03, 0.0101, 15, 10, 0.4244]
    assert rows(page, "constants", "torchvision:resnet18, integer engine")[0][1] == 6_123_456


def test_layers_and_roofline_are_those_of_the_files(page: Page) -> None:
    layers = {row[0]: row for row in page.tables["table-layers"][1:] if row[0] in ("conv1", "lists of lists1", "pool")}
    assert layers["conv1"][1:] == ["quad", 1.0625e-4, 0.1, 4_000_000, 4e-3 / 1.0625e-4, 0.333]
    assert layers["lists of lists1"][1:3] == ["lists", 2.125e-4]
    # The benchmark is of another network than the profile: its layers and ceilings are its own.
    beside = {row[1]: row for row in page.tables["table-roofline"][1:]}
    name, method, intensity, rate, loop, ceiling, share = beside["sparse"][-7:]
    assert (name, method, loop) == ("layer0", "sparse", "vpmaddubsw+vpaddw")
    assert (intensity, rate, ceiling, share) == (100, 100.0, 182.6, 100.0 / 182.6)
    assert beside["quad"][4:6] == ["vpmaddubsw+vpmaddwd+vpaddd", 95.4]
    assert beside["direct"][4:] == [NONE, NONE, NONE]
    ceilings = [list(entry.values()) for entry in documents.bench()["ceilings"]]
    assert page.tables["table-ceilings"][1:] == ceilings


def test_a_profile_is_held_against_ceilings_of_its_network(tmp_path: Path) -> None:
    folder = documents.write(tmp_path, a=documents.bench(network="efficientnet-lite0"), b=documents.profile())
    page = Page(render_report(read_material([folder]), "today"))
    rates = {row[0]: row[1:] for row in page.tables["table-roofline"][1:]}
    rate = 4e-3 / (1.0625e-4 * 3)
    assert rates["conv2"] == ["sparse", 4_000_000 / 77_777, rate, "vpmaddubsw+vpaddw", 182.6, rate / 182.6]
    assert set(rates) == {"conv1", "conv2"}


def test_ceilings_alone_are_shown(tmp_path: Path) -> None:
    whole = documents.bench()
    alone = {name: whole[name] for name in ("schema", "machine", "ceilings")}
    page = Page(render_report(read_material([documents.write(tmp_path, x=alone)]), "today"))
    assert [attributes["id"] for attributes in page.all("section")] == ["roofline", "machine", "files"]
    assert len(page.tables["table-ceilings"]) == 1 + len(whole["ceilings"])


def test_answers_that_are_all_right_have_a_scale(tmp_path: Path) -> None:
    runs = [documents.run("nybble 4-bit", 4, 1, 50.0, top1=1.0)]
    document = documents.bench(runs=runs, photo_count=None, ratios={}, ceilings=[], layers=None)
    page = Page(render_report(read_material([documents.write(tmp_path, x=document)]), "today"))
    (row,) = page.tables["table-accuracy"][1:]
    assert row == ["64 photos of a folder", "nybble 4-bit", 1.0]
    assert "An interval is missing" in page.text


def test_scenarios_say_their_verdict_and_why(page: Page) -> None:
    offline, multi = page.tables["table-scenarios"][1:]
    assert offline[:5] == ["Offline", "efficientnet-lite0", 118.203125, "samples/s", "INVALID"]
    assert multi[:8] == ["MultiStream", "efficientnet-lite0", 97.65, "ms", "VALID", 0.886, *Share(443, 500).interval]
    assert page.tables["table-scenario-latencies"][1:] == [["MultiStream", 9.0, 9.7, 10.0, 10.8, 12.1]]
    assert "Offline is INVALID: it ended before the minimum duration of 600 s" in page.text
    assert "Offline, MultiStream: not a submission, 500 photos instead of the 50000" in page.text


def test_calibration_and_machine(page: Page) -> None:
    tensor = documents.calibration()["tensors"]["add"]
    (row,) = rows(page, "calibration", "add")
    assert row == ["add", "s4", tensor["values"], -3.5, 2.75, 0.0, tensor["range"], 0.000123]
    told = {row[0]: row[1] for row in page.tables["table-machine"]}
    assert documents.EVIL in told["processor"]
    assert told["instruction sets"] == "avx2"
    assert told["MLPerf: LoadGen"] == "6.0.17"
    assert "other work used 31" in page.text
    assert "is more than 3 points less accurate than the float network: it is WRONG, not fast" in page.text


def test_the_page_begins_with_figures(source: str) -> None:
    head = source[source.index('<dl class="facts">') : source.index("<nav")]
    values = [float(value) for value in re.findall(r'<data value="([^"]+)">', head)]
    assert values[:4] == [1.9371, 1.8113, 0.886, 93.4837 + 8]


def test_a_disturbed_machine_is_said_before_any_figure(source: str, tmp_path: Path) -> None:
    header = source[: source.index('<dl class="facts">')]
    assert "other work used 31% of the machine during the measurement" in header
    taken = {"other_processes": 0.2, "other_guests": 0.05}
    documents.write(tmp_path, profile=documents.profile(disturbance=taken))
    page = render_report(read_material([tmp_path]), "2026-11-26")
    assert "other work used 25% of the machine" in page[: page.index("<nav")]
    documents.write(tmp_path, profile=documents.profile(disturbance={**taken, "other_processes": 0.0}))
    assert "other work used" not in render_report(read_material([tmp_path]), "2026-11-26")


def test_what_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    page = Page(render_report(read_material([documents.write(tmp_path, x=documents.evaluation())]), "today"))
    assert [attributes["id"] for attributes in page.all("section")] == ["accuracy", "machine", "files"]
    assert "MLPerf scenarios: nybble mlperf run MODEL --images DIR --out DIR" in page.text
    assert "accuracy: nybble evaluate" not in page.text


def test_folders_stand_beside_each_other(tmp_path: Path) -> None:
    slower = documents.bench(runs=[documents.run("nybble 4-bit", 4, 1, 50.5)], ratios={}, ceilings=[], layers=None)
    folders = [
        documents.write(tmp_path / "first", x=documents.bench()),
        documents.write(tmp_path / "second", x=slower),
    ]
    page = Page(render_report(read_material(folders), "today"))
    assert page.tables["table-throughput"][0][0] == "source"
    assert {row[0] for row in page.tables["table-throughput"][1:]} == {"first", "second"}
    titles = [chart.title for section in sections(read_material(folders)) for chart in section.charts]
    assert {f"Batch 1, {name}: images per second, DISTURBED" for name in ("first", "second")} <= set(titles)


def test_pictures_follow_the_page(material: Material) -> None:
    for section in sections(material):
        for chart in section.charts:
            drawing = inline(chart, WIDTH)
            assert not re.search(r"#[0-9a-fA-F]{6}|font-family|DejaVu|<metadata|<style", drawing), chart.key
            assert set(re.findall(r"var\(--([a-z]+)\)", drawing)) <= set(DRAWN)
            root = ET.fromstring(drawing)
            assert root.get("aria-labelledby") == f"{chart.key}-title {chart.key}-desc"
            title, description = root[0], root[1]
            assert (title.text, description.text) == (chart.title, chart.description)


def test_text_stays_within_pictures(material: Material) -> None:
    """Nothing begins or ends outside, as far as the width of letters is known."""
    for section in sections(material):
        for chart in section.charts:
            for width in (WIDTH, WIDE) if chart.resizes else (WIDTH,):
                for axes in chart.draw(width).axes:
                    for text in axes.texts:
                        if axes.axison:  # Labels of lines in a plot.
                            continue
                        x, y = text.get_position()
                        length = 0.5 * text.get_fontsize() * len(text.get_text())
                        left = x - length * {"left": 0, "center": 0.5, "right": 1}[text.get_ha()]
                        assert left >= -12, (chart.key, text)
                        assert left + length <= width + 12, (chart.key, text)
                        assert 0 <= y <= axes.get_ylim()[0], (chart.key, text)


def test_figures_are_files_in_full_precision(material: Material, tmp_path: Path) -> None:
    written = list(write_figures(tmp_path / "figures", material))
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(path.name for path in written)
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert min(picture.size) > 100
        elif path.suffix == ".svg":
            assert ET.parse(path).getroot().tag.endswith("svg")
    with (tmp_path / "figures" / "latency.csv").open(newline="") as file:
        head, first, *_ = csv.reader(file)
    run = documents.bench()["runs"][0]
    assert head == ["contestant", "batch", "median", "90th percentile", "99th percentile", "remark"]
    assert [float(value) for value in first[1:-1]] == [1, *run["latency"].values()] and first[-1] == "DISTURBED"
    assert {"throughput", "ratios", "accuracy", "memory", "layers", "roofline", "calibration", "machine"} <= {
        path.stem for path in written if path.suffix == ".csv"
    }


def test_it_is_written_whole(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report.html"
    out.write_text("before")
    monkeypatch.setattr("nybble.report.report_page.has_jinja", lambda: False)
    with pytest.raises(ReportError, match=r"Jinja.*pip install 'nybble\[report\]'"):
        write_report(out, material, "today")
    monkeypatch.undo()
    monkeypatch.setattr("nybble.report.drawing.find_spec", lambda name: None)
    with pytest.raises(ReportError, match=r"Matplotlib.*pip install 'nybble\[report\]'"):
        write_report(out, material, "today")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "before"


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2.1, relative luminance."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast_is_enough(theme: int) -> None:
    colours = {name: pair[theme] for name, pair in COLOURS.items()}
    for ground in ("paper", "card"):
        for name in ("ink", "soft", "wrong", "right"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    marks = {*BITS.values(), *(colour for colour, _ in (*METHODS.values(), OTHER))}
    for name in marks:
        for ground in ("card", "track"):
            assert contrast(colours[name], colours[ground]) >= 3, (name, ground)
    assert len({COLOURS[name][0] for name in DRAWN}) == len(DRAWN)


def test_a_scenario_that_failed_shows_no_zeros(tmp_path: Path) -> None:
    documents.write_submission(tmp_path / "out", valid=False)
    (log,) = tmp_path.rglob("mlperf_log_detail.txt")
    log.write_text(re.sub(r'("result_[^"]*(?:per_sec|latency)[^"]*", "value": )[\d.]+', r"\1 0", log.read_text()))
    page = Page(render_report(read_material([tmp_path / "out"]), "today"))
    head, row = page.tables["table-scenarios"]
    assert "result" not in head and "INVALID" in row and 0 not in row
    assert not [
        chart
        for section in sections(read_material([tmp_path / "out"]))
        for chart in section.charts
        if chart.key.startswith("scenario")
    ]


def test_a_column_without_a_figure_is_left_out() -> None:
    made = table("x", "", ("a", "b"), [("", (None, 1)), ("", (None, 2))])
    assert made.columns == ["b"] and made.rows == [[1], [2]]


def test_colours_of_bits_stand_for_nothing_else() -> None:
    assert not {*BITS.values()} & {colour for colour, _ in (*METHODS.values(), OTHER)}


def test_the_heading_names_networks_and_machine(tmp_path: Path) -> None:
    folder = documents.write(tmp_path, x=documents.bench(network="models/lite0"))
    text = render_report(read_material([folder]), "today")
    assert f"<title>nybble report: lite0 on {documents.bench()['machine']['cpu']}" in html.unescape(text)
