"""The line format, one accessor at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nybble.graph import DType, ModelFormatError, Padding, Pair
from nybble.graph.lines import LayerFile, LayerText, joined, split_lines, typed_shape

PLACE = Path("net/model/conv")


def layer(*lines: str) -> LayerFile:
    return LayerFile(PLACE, "\r\n".join(("Layer", *lines, "")))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("is_last_ended", [True, False])
def test_lines_end_either_way(end: str, is_last_ended: bool) -> None:
    text = end.join(("Layer", "a=1", "b= 2 =")) + (end if is_last_ended else "")
    file = LayerFile(PLACE, text)
    assert file.kind == "Layer"
    assert {key: (entry.value, entry.line) for key, entry in file.entries.items()} == {"a": ("1", 2), "b": (" 2 =", 3)}


def test_other_separators_do_not_end_a_line() -> None:
    assert split_lines("a\x0bb\x85c\u2028d\re\n") == ["a\x0bb\x85c\u2028d\re"]
    assert split_lines("") == []
    assert split_lines("\n\n") == ["", ""]


def test_values() -> None:
    file = layer("i=-7", "f=-1.5e3", "t=True", "w=2:a b", "n=3:1 2.5 -3e-1", "none=0:", "s=u4,3:1 2 3", "m=u4s4s32")
    assert file.integer("i", -7, 7) == -7
    assert file.number("f") == -1500.0
    assert file.flag("t") is True
    assert file.words("w") == ("a", "b")
    assert file.words("none") == ()
    assert file.numbers("n") == (1.0, 2.5, -0.3)
    assert file.shape("s") == (DType.U4, (1, 2, 3))
    assert not file.has("absent")
    with pytest.raises(ModelFormatError, match=r"conv:9: unknown key 'm' for Layer \(known: absent, f, i,"):
        file.finish()
    file.entries["compute_mode"] = file.entries["m"]
    assert file.mode(3) == (DType.U4, DType.S4, DType.S32)


def test_windows() -> None:
    file = layer("a=3", "b=2:1 2", "c=4:1 2 3 4", "d=1:5")
    assert (file.pair("a"), file.pair("b"), file.pair("d")) == (Pair(3, 3), Pair(1, 2), Pair(5, 5))
    assert file.padding("a") == Padding(3, 3, 3, 3)
    assert file.padding("b") == Padding(1, 2, 1, 2)
    assert file.padding("c") == Padding(1, 2, 3, 4)


def test_tensor_takes_two_lines() -> None:
    file = layer("weight=s4,2:3 5", "!model/npdata/w", "next=1")
    reference = file.tensor("weight", (DType.S4, DType.S8), 2)
    assert (reference.dtype, reference.shape, reference.path) == (DType.S4, (3, 5), "model/npdata/w")
    assert file.entries["next"].line == 4


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "expected a layer type"),
        ("\nLayer\n", 1, "expected a layer type"),
        ("Layer type\n", 1, "expected a layer type"),
        ("key=1\n", 1, "expected a layer type"),
        ("Layer\n\n", 2, "expected key=value"),
        ("Layer\na=1\nnothing\n", 3, "expected key=value, found 'nothing'"),
        ("Layer\n=1\n", 2, "expected key=value"),
        ("Layer\na =1\n", 2, "expected key=value"),
        ("Layer\na=1\nb=1\na=1\n", 4, r"a is given twice \(first in line 2\)"),
        ("Layer\n!model/x\n", 2, "expected key=value"),
        ("Layer\na=1\n!x\n!y\n", 4, "expected key=value"),
        ("Layer\n" + "x" * 1000, 2, r"found 'x{57}\.\.\.'"),
    ],
)
def test_malformed_text(text: str, line: int, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        LayerFile(PLACE, text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{PLACE}:{line}: ")


@pytest.mark.parametrize(
    ("value", "read", "message"),
    [
        ("8", lambda file: file.integer("k", 0, 7), "must be in 0..7, found 8"),
        ("-1", lambda file: file.integer("k", 0, 7), "must be in 0..7, found -1"),
        *(
            (value, lambda file: file.integer("k", 0, 7), "must be an integer of 0..7")
            for value in ("", "1.0", "+1", " 1", "1 ", "0x1", "1_0", "1" * 5000, "٣", "nan", "--1", "1e0")
        ),
        *(
            (value, lambda file: file.number("k"), "must be a finite number")
            for value in ("", "nan", "inf", "-inf", "1e999", "1,5", "1" * 50, ".5", "1_0", "0x1p3", "٣")
        ),
        *((value, lambda file: file.flag("k"), "must be True or False") for value in ("", "true", "1", "False ")),
        *((value, lambda file: file.words("k"), "must be a tuple") for value in ("", "1", "a:b", ":", "1.0:a")),
        *(
            (value, lambda file: file.words("k"), "announces .* values")
            for value in ("2:a", "1:a b", "-1:", "3:a  b", "1: ", "1:", "999999999999:a")
        ),
        ("3:1 2 3", lambda file: file.pair("k"), "one or two"),
        ("5:1 2 3 4 5", lambda file: file.pair("k"), "one to four"),
        ("0:", lambda file: file.pair("k"), "one to four"),
        ("2:1 0", lambda file: file.pair("k"), "must be in 1.."),
        ("99999999", lambda file: file.pair("k"), "must be in 1.."),
        ("3:1 2 3", lambda file: file.padding("k"), "one, two or four"),
        ("2:1 -1", lambda file: file.padding("k"), "must be in 0.."),
        *((value, lambda file: file.shape("k"), "DTYPE,NDIMS") for value in ("", "u4", "u5,1:1", "U4,1:1", ",1:1")),
        ("u4,5:1 1 1 1 1", lambda file: file.shape("k"), "1 to 4 dimensions"),
        ("u4,0:", lambda file: file.shape("k"), "1 to 4 dimensions"),
        ("u4,1:0", lambda file: file.shape("k"), "must be in 1.."),
        ("u4,4:65536 65536 65536 65536", lambda file: file.shape("k"), "at most 268435456 elements"),
        ("u4,1:99999999999", lambda file: file.shape("k"), "must be in 1.."),
        ("s4,1:4", lambda file: file.tensor("k", (DType.S4,), 1), "followed by a line !path"),
    ],
)
def test_malformed_values(value: str, read: Callable[[LayerFile], object], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        read(layer("before=1", f"k={value}"))
    assert caught.value.line == 3
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value", ["", "u4", "u4s4", "u4s4s33", "u4s4s32s8", "u4 s4 s32", "u4s4s32 ", "u4s4x32", "U4s4s32"]
)
def test_malformed_modes(value: str) -> None:
    with pytest.raises(ModelFormatError, match="compute_mode of Layer names 3 types") as caught:
        layer(f"compute_mode={value}").mode(3)
    assert caught.value.line == 2


def test_tensors_of_the_wrong_kind() -> None:
    file = layer("k=s4,2:3 5", "!model/w")
    with pytest.raises(ModelFormatError, match=r"conv:2: k must be s8 or s16, found s4"):
        file.tensor("k", (DType.S8, DType.S16), 2)
    with pytest.raises(ModelFormatError, match=r"conv:2: k must have 1 dimensions, found 2"):
        file.tensor("k", (DType.S4,), 1)
    with pytest.raises(ModelFormatError, match=r"conv:3: k is not a tensor"):
        file.text("k")


def test_missing_key_names_the_type() -> None:
    with pytest.raises(ModelFormatError, match=r"conv:1: Layer lacks the key stride"):
        layer().pair("stride")


def test_writing() -> None:
    text = LayerText("Layer")
    text.add("flag", True)
    text.add("pair", joined(Pair(2, 3)))
    text.add_tensor("w", DType.S4, (3, 5), "model/npdata/w")
    assert text.encode() == b"Layer\r\nflag=True\r\npair=2:2 3\r\nw=s4,2:3 5\r\n!model/npdata/w\r\n"
    assert typed_shape(DType.F32, [7]) == "f32,1:7"
    assert joined([]) == "0:"
