"""Errors name the user's line, whatever is written on it."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nybble.quantize.errors import CaptureError
from nybble.quantize.sources.pytorch.capture import capture
from nybble.quantize.sources.pytorch.source_lines import Frame, frames_of_trace, user_line

#: Lines of a forward; ``F.glu`` has no integer form and is named with the line that calls it.
LINES = {
    "double quotes": 'return self.head(F.glu(self.parts["stem"](x)))',
    "two of them": 'return self.parts["fc"](F.glu(self.parts["stem"](x)).mean((2, 3)))',
    "single quotes": "return self.head(F.glu(self.parts['stem'](x)))",
    "mixed": """return self.head(F.glu(self.parts["st" 'em'](x)))""",
    "three": 'return self.head(F.glu(self.parts["""stem"""](x)))',
    "f-string": """return self.head(F.glu(self.parts[f"{'stem'}"](x)))""",
    "looks like a frame": 'return self.head(F.glu(self.named("File \\"a.py\\", line 3, in forward", x)))',
    "commas": "return self.head(F.glu(self.named('a, line 7, in b', x), ))",
    "unicode": 'return self.head(F.glu(self.named("Größe, 大きさ", x)))',
    "backslash": "return self.head(F.glu(self.named('\\\\\"', x)))",
    "comment": """return self.head(F.glu(self.parts["stem"](x)))  # File "x.py", line 1, in y""",
}

NETWORK = """
import torch.nn.functional as F
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({{"stem": nn.Conv2d(3, 4, 3), "fc": nn.Linear(4, 5)}})

    def named(self, text, x):
        return self.parts["stem"](x)

    def head(self, x):
        return self.parts["fc"](x.mean((2, 3)))

    def forward(self, x):
{body}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose name is not simple either."""
    found = tmp_path / 'a "quoted", line 3, in folder'
    found.mkdir()
    yield found
    sys.modules.pop("drawn_network", None)


def made(folder: Path, body: str) -> tuple[nn.Module, Path, int]:
    """A network whose forward is so written, its file, and the number of its first line."""
    path = folder / "drawn_network.py"
    text = NETWORK.format(body=textwrap.indent(body, " " * 8))
    path.write_text(text, encoding="utf-8")
    specification = importlib.util.spec_from_file_location("drawn_network", path)
    assert specification is not None and specification.loader is not None
    code = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(code)
    return code.Net(), path, text[: text.index("def forward")].count("\n") + 2


def refused(module: nn.Module) -> str:
    with pytest.raises(CaptureError) as caught:
        capture(module, (3, 6, 6))
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", LINES)
def test_an_unsupported_operation_is_named_with_its_line(name: str, folder: Path) -> None:
    module, path, number = made(folder, LINES[name])
    text = refused(module)
    assert text.startswith(f"{path}:{number}: {LINES[name]}"), text
    assert "aten.glu.default cannot be captured: replace the activation by a function of one number" in text


@pytest.mark.parametrize("name", ["double quotes", "looks like a frame", "comment"])
def test_such_lines_are_captured(name: str, folder: Path) -> None:
    body = LINES[name].replace("F.glu", "F.relu")
    module, path, number = made(folder, body)
    network = capture(module, (3, 6, 6))
    assert network["relu"].place == f"{path}:{number}: {body}"
    assert [op.name for op in network][:1] == ["parts.stem"]


def helped(x: torch.Tensor) -> torch.Tensor:
    return functional.glu(x)


class Helped(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._inner(x)

    def _inner(self, x: torch.Tensor) -> torch.Tensor:
        return helped(x)


def test_the_line_of_a_helper() -> None:
    """Not only lines of functions called forward."""
    line = helped.__code__.co_firstlineno + 1
    assert f"test_source_lines.py:{line}: return functional.glu(x): aten.glu.default" in refused(Helped())


def test_lines_that_go_on(folder: Path) -> None:
    body = 'y = F.glu(\n    self.named("a",\n        x))\nreturn self.head(y)'
    module, path, number = made(folder, body)
    assert refused(module).startswith((f"{path}:{number}: y = F.glu(", f"{path}:{number + 1}: "))


def test_an_error_of_the_module_is_named_with_its_line_and_kept(folder: Path) -> None:
    module, path, number = made(folder, 'return self.parts["fc"](x, "\\"")')
    with pytest.raises(CaptureError) as caught:
        capture(module, (3, 6, 6))
    assert str(caught.value).startswith(f'{path}:{number}: return self.parts["fc"](x, "\\"")')
    assert isinstance(caught.value.__cause__, TypeError)


def test_code_without_a_file() -> None:
    """What runs such code is named instead; nothing of ours or torch's."""
    names: dict[str, Any] = {}
    exec(NETWORK.format(body="        return self.head(F.glu(self.parts['stem'](x)))"), names)
    text = refused(names["Net"]())
    assert "aten.glu.default cannot be captured" in text and "site-packages" not in text
    wrapped = nn.Sequential(names["Net"]())
    assert "aten.glu.default" in refused(wrapped)


class Wrong(nn.Module):
    """Fails in torch, called by nothing but torch: there is no line of a user."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(size), nn.Flatten(), nn.LazyLinear(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_an_image_that_is_too_small() -> None:
    text = refused(Wrong(9))
    assert "test_source_lines.py:" in text and "return self.layers(x)" in text and "of this size" in text
    text = refused(nn.Sequential(nn.Conv2d(3, 4, 9)))
    assert text.startswith("Sequential: cannot be captured: RuntimeError: ") and "of this size" in text


class Mixed(nn.Module):
    """Autocast adds operations of which no line of the module speaks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layer(x).mean((2, 3))


def test_who_captures_is_not_to_blame() -> None:
    assert refused(Mixed()).startswith("Mixed: aten._to_copy.default cannot be captured: it converts to torch.bfloat16")
    assert refused(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GLU())).startswith("Sequential (module 1): aten.glu.default")


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip),
            st.integers(1, 9999),
            st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])).map(str.strip),
        ),
        min_size=1,
        max_size=4,
        # Python leaves out a line that is repeated more than three times.
        unique=True,
    )
)
def test_traces_are_read_as_python_writes_them(entries: list[tuple[str, int, str]]) -> None:
    """Files and lines of any text: what was formatted comes back. A trace may have lost its first two spaces."""
    stack = traceback.StackSummary.from_list([(file, line, "forward", code) for file, line, code in entries])
    text = "".join(stack.format())
    expected = [Frame(file, line, code) for file, line, code in entries]
    assert frames_of_trace(text) == expected
    assert frames_of_trace(text.strip("\n").removeprefix("  ")) == expected


def test_the_innermost_line_of_the_user() -> None:
    torch_file, own_file = torch.__file__, sys.modules["nybble"].__file__
    standard = Frame(traceback.__file__, 4, "s")
    frames = [
        standard,
        Frame("net.py", 3, "a"),
        Frame("net.py", 5, "b + c"),
        Frame("<string>", 1, ""),
        Frame(torch_file, 9, "t"),
    ]
    assert user_line([*frames, Frame(str(own_file), 1, "n")]) == "net.py:5: b + c"
    assert user_line([Frame("<string>", 2, "")]) == "<string>:2"
    assert user_line([standard, *frames[4:]]) == user_line([]) == ""
