"""Commands and Python examples of a page, in order, with what its source says about running them.

An HTML comment above a fence, which readers do not see, says how it is run:

- ``<!-- run: no, REASON -->``: not at all.
- ``<!-- run: --limit 8 -->``: options that are added to each ``nybble`` command.
- ``<!-- run: instead COMMAND -->``: another command in its place.
- ``<!-- run: exit 1 -->``: with this exit code.
- ``<!-- run: background -->``: as a server that stays until the end of the page; options may follow.
- ``<!-- run: before CODE -->``: for Python, code that runs first. It may have several lines.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

_COMMENT = re.compile(r"<!-- run: (.*?)-->", re.DOTALL)
#: Where the arguments of a command end.
_END = re.compile(r"\s+#|\s+>|\s+\|\s|\s*;|\s+&&|$")


@dataclass(frozen=True)
class Fence:
    """A fence of ``sh``, ``console`` or ``python``.

    ``text`` is what runs, ``before`` the code that precedes it; ``left_out`` says why nothing runs.
    """

    line: int
    kind: str
    text: str
    before: str = ""
    left_out: str | None = None
    background: bool = False
    exit_code: int = 0


def fences(path: Path) -> list[Fence]:
    """Those of a page. Raises ``ValueError`` naming the line where a comment makes no sense."""
    return list(_fences(path))


def _fences(path: Path) -> Iterator[Fence]:
    said = ""
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block" and (found := _COMMENT.search(token.content)):
            said = found[1].strip("\n ")
        elif token.type == "fence" and token.info in {"sh", "console", "python"}:
            line = token.map[0] + 1 if token.map else 0
            yield _fence(f"{path.name}:{line}", line, token.info, token.content, said)
            said = ""
        elif said and token.type == "fence":
            raise ValueError(f"{path.name}: {said!r} precedes a fence that is never run")


def _fence(where: str, line: int, kind: str, content: str, said: str) -> Fence:
    text = _commands(content) if kind == "console" else content
    word, _, rest = said.partition(" ")
    match word:
        case "":
            return Fence(line, kind, text)
        case "no,":
            if not rest:
                raise ValueError(f"{where}: a reason has to follow 'no,'")
            return Fence(line, kind, text, left_out=rest)
        case "background":
            return Fence(line, kind, _with_options(text, rest), background=True)
        case "instead":
            return Fence(line, kind, rest)
        case "exit":
            return Fence(line, kind, text, exit_code=int(rest))
    if word.startswith("before"):
        return Fence(line, kind, text, before=textwrap.dedent(said.removeprefix("before")))
    if word.startswith("-"):
        return Fence(line, kind, _with_options(text, said))
    raise ValueError(f"{where}: 'run: {said}' means nothing")


def _commands(content: str) -> str:
    """The commands of a session: lines after ``$``, continued after a backslash."""
    commands, goes_on = [], False
    for line in content.splitlines():
        if line.startswith("$ ") or goes_on:
            commands.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(commands) + "\n"


def _with_options(text: str, options: str) -> str:
    """Each ``nybble`` command with options more."""
    lines = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if re.match(r"\s*nybble\s", line):
            end = _END.search(line)
            assert end is not None
            line = f"{line[: end.start()]} {options}{line[end.start() :]}"
        lines.append(line)
    return "\n".join(lines) + "\n"
