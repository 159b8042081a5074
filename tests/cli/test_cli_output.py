"""Tables in terminals of any width, and plurals."""

from __future__ import annotations

import re
import sys

import pytest

from nybble.cli.output import plural, print_table, table


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int) -> list[str]:
    """A table of two rows as a terminal of so many columns shows it."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    grid = table(
        "contestant",
        "images/s",
        "quartiles",
        numbers=("images/s", "quartiles"),
    )
    grid.title = "two of them"
    grid.add_row("nybble 4-bit", "93.5", "91.0 to 95.1")
    grid.add_row("another", "45.7", "first\nsecond")
    print_table(grid)
    return [line.rstrip() for line in re.sub("\x1b[^m]*m", "", capsys.readouterr().out).splitlines()]


def test_a_table_that_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(capsys, monkeypatch, 80)
    assert any(line.split() == ["contestant", "images/s", "quartiles"] for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_table_that_does_not_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(capsys, monkeypatch, 24) == [
        "two of them",
        "",
        "contestant  nybble 4-bit",
        "images/s    93.5",
        "quartiles   91.0 to 95.1",
        "",
        "contestant  another",
        "images/s    45.7",
        "quartiles   first",
        "            second",
    ]


def test_leading_columns_stand_above_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")
    grid = table("layer", "details", "MACs", "bytes", numbers=("MACs", "bytes"))
    grid.add_row("a_convolution_of_the_network", "stride 2", "10,838,016", "992")
    grid.add_row("another_layer_of_the_network", "", "", "")
    grid.add_section()
    grid.add_row("total", "", "10,838,016", "992")
    print_table(grid, lead=("layer", "details"))
    assert capsys.readouterr().out.splitlines() == [
        "layer  details",
        "        MACs  bytes",
        "─" * 30,
        "a_convolution_of_the_network  stride 2",
        "  10,838,016    992",
        "another_layer_of_the_network",
        "─" * 30,
        "total",
        "  10,838,016    992",
    ]


@pytest.mark.parametrize(("count", "text"), [(0, "0 photos"), (1, "1 photo"), (2, "2 photos")])
def test_plurals(count: int, text: str) -> None:
    assert plural(count, "photo") == text
