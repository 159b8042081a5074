"""What a page's source says about running its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("markdown_it", reason="needs markdown-it-py: make docs installs it")

from fences import fences


def page(folder: Path, text: str) -> Path:
    path = folder / "page.md"
    path.write_text(text, encoding="utf-8")
    return path


def test_commands_of_a_session_are_those_after_the_prompt(tmp_path: Path) -> None:
    text = "```console\n$ nybble a \\\n  --b\noutput\n$ nybble c\n```\n"
    (fence,) = fences(page(tmp_path, text))
    assert fence.text == "nybble a \\\n  --b\nnybble c\n"


def test_options_are_added_to_each_command(tmp_path: Path) -> None:
    text = "<!-- run: --limit 8 -->\n```sh\nnybble a > x   # why\nmkdir b\nnybble c \\\n  --d\n```\n"
    (fence,) = fences(page(tmp_path, text))
    assert fence.text == "nybble a --limit 8 > x   # why\nmkdir b\nnybble c --d --limit 8\n"


def test_marks(tmp_path: Path) -> None:
    text = (
        "<!-- run: no, downloads -->\n```sh\na\n```\n<!-- run: instead b -->\n```sh\na\n```\n"
        "<!-- run: background --port 1 -->\n```sh\nnybble serve\n```\n<!-- run: before\nx = 1\n\ny = 2\n-->\n"
        "```python\nx\n```\n```text\nnot run\n```\n"
    )
    left_out, instead, server, code = fences(page(tmp_path, text))
    assert left_out.left_out == "downloads" and instead.text == "b"
    assert server.background and server.text == "nybble serve --port 1\n"
    assert code.before.strip() == "x = 1\n\ny = 2" and code.text == "x\n"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- run: no, -->\n```sh\na\n```\n",
        "<!-- run: maybe -->\n```sh\na\n```\n",
        "<!-- run: no, why -->\n```text\na\n```\n",
    ],
)
def test_a_mark_that_means_nothing_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md"):
        fences(page(tmp_path, text))
