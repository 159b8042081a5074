from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nybble.mlperf.accuracy import DTYPES, accuracy, compare, read_answers
from nybble.mlperf.errors import MlperfError, MlperfWarning
from nybble.mlperf.labels import Labelled, find_photos, read_labels


def write_log(path: Path, answers: list[tuple[int, int]]) -> Path:
    entries = [
        {"seq_id": i, "qsl_idx": index, "data": int(answer).to_bytes(4, "little", signed=True).hex().upper()}
        for i, (index, answer) in enumerate(answers)
    ]
    path.write_text(json.dumps(entries))
    return path


def write_list(path: Path, labels: list[int]) -> Path:
    path.write_text("".join(f"ILSVRC2012_val_{i + 1:08}.JPEG {label}\n" for i, label in enumerate(labels)))
    return path


def test_accuracy_is_counted_by_line_and_a_photo_once(tmp_path: Path, run: Callable[..., Any]) -> None:
    log = write_log(tmp_path / "mlperf_log_accuracy.json", [(2, 65), (0, 7), (2, 1), (1, 999)])
    labels = write_list(tmp_path / "val_map.txt", [7, 8, 65, 1])
    with pytest.warns(MlperfWarning, match="1 photos are answered again with another class; the first counts"):
        share = accuracy(read_answers(log), read_labels(labels))
    assert (share.right, share.total) == (2, 3)
    log = write_log(log, [(2, 65), (0, 7), (2, 65), (1, 999)])
    result = run("mlperf", "accuracy", tmp_path, "--labels", labels)
    assert result.stdout == "accuracy=66.667%, good=2, total=3\n"
    assert json.loads(run("mlperf", "accuracy", log, "--labels", labels, "--json").stdout)["right"] == 2


def test_logs_that_cannot_be_right(tmp_path: Path) -> None:
    for text, words in (
        ("[", "is no accuracy log"),
        ("[" * 100_000, "is no accuracy log"),
        ("{}", "a list of answers"),
        ("[\n]", "has no answers"),
        ('[{"qsl_idx": 1, "data": "01"}, {"qsl_idx": 2, "data": "0100"}]', "entry 1: has 2 bytes instead of the 1"),
        ('[{"qsl_idx": 1, "data": ""}]', "entry 0: has 0 bytes; a class has 1, 2, 4 or 8"),
        ('[{"qsl_idx": 1, "data": "010000000200000003000000"}]', "entry 0: has 12 bytes; a class has 1, 2, 4 or 8"),
        ('[{"qsl_idx": 1, "data": "0100000"}]', "entry 0: its data are not pairs of hexadecimal digits"),
        ('[{"qsl_idx": 1, "data": 1}]', "entry 0: its data are not pairs"),
        ('[{"qsl_idx": 1.5, "data": "01000000"}]', "entry 0: qsl_idx '1.5' is not an integer"),
        ('[{"qsl_idx": true, "data": "01000000"}]', "entry 0: qsl_idx 'True' is not an integer"),
        ('[{"qsl_idx": -1, "data": "01000000"}]', "entry 0: qsl_idx '-1' is not an integer from 0 on"),
        ("[1]", "entry 0: has no 'qsl_idx' and 'data'"),
        # 3.5 and infinity as float32.
        ('[{"qsl_idx": 1, "data": "00006040"}]', "entry 0: 00006040 is a class neither as int32 nor as uint32 nor as"),
        ('[{"qsl_idx": 1, "data": "0000807f"}]', "entry 0: 0000807f is a class neither as"),
        ('[{"qsl_idx": 1, "data": "xx"}]', "entry 0"),
        ('[{"data": "01000000"}]', "entry 0"),
    ):
        path = tmp_path / "log.json"
        path.write_text(text)
        with pytest.raises(MlperfError) as caught:
            read_answers(path)
        assert words in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(MlperfError, match="answers photo 5, but the list has 2"):
        accuracy({5: 1}, [Labelled("a", 1), Labelled("b", 1)])


@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        (name, most)
        for names in DTYPES.values()
        for name in names
        for most in (5, 127, 255, 999)
        if np.array(most).astype(name) == most
    ],
)
def test_answers_of_every_type_are_read(tmp_path: Path, run: Callable[..., Any], dtype: str, most: int) -> None:
    kind = np.dtype(dtype).newbyteorder("<")
    classes = np.linspace(0, most, 24).round().astype(int)
    expected = dict(enumerate(classes.tolist()))
    log = tmp_path / "log.json"
    answers = classes.astype(kind)
    log.write_text(json.dumps([{"qsl_idx": i, "data": answers[i : i + 1].tobytes().hex()} for i in range(24)]))
    assert read_answers(log, dtype) == expected
    labels = write_list(tmp_path / "val_map.txt", classes.tolist())
    # The bytes of float16 are plausible classes as int16 too, which is an error without --dtype.
    for options in ((), ("--dtype", dtype)) if dtype != "float16" else (("--dtype", dtype),):
        assert "good=24, total=24" in run("mlperf", "accuracy", log, "--labels", labels, *options).stdout


def test_answers_that_may_be_of_two_types_are_asked_about(tmp_path: Path, run: Callable[..., Any]) -> None:
    log, labels = tmp_path / "log.json", write_list(tmp_path / "val_map.txt", [1, 2])
    # 1.0 and 2.0 as float16, 15360 and 16384 as int16.
    log.write_text('[{"qsl_idx": 0, "data": "003c"}, {"qsl_idx": 1, "data": "0040"}]')
    result = run("mlperf", "accuracy", log, "--labels", labels)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "may be int16 or uint16 or float16; say which with --dtype" in result.stderr
    assert "good=2, total=2" in run("mlperf", "accuracy", log, "--labels", labels, "--dtype", "float16").stdout
    result = run("mlperf", "accuracy", log, "--labels", labels, "--dtype", "int32")
    assert result.exit_code == 3 and "entry 0: has 2 bytes instead of the 4 of int32" in result.stderr


def test_the_background_may_be_minus_one(tmp_path: Path) -> None:
    assert read_answers(write_log(tmp_path / "log.json", [(0, -1), (1, 7)])) == {0: -1, 1: 7}


def test_not_one_right_answer_is_suspicious(tmp_path: Path, run: Callable[..., Any]) -> None:
    log = write_log(tmp_path / "log.json", [(i, 5) for i in range(20)])
    result = run("mlperf", "accuracy", log, "--labels", write_list(tmp_path / "val_map.txt", [6] * 20))
    assert result.exit_code == 0
    assert "good=0, total=20" in result.stdout
    assert result.stderr.startswith("warning: not one of 20 answers is right")
    result = run("mlperf", "accuracy", log, "--labels", write_list(tmp_path / "val_map.txt", [6] * 19 + [5]))
    assert result.stderr == ""
    result = run("mlperf", "accuracy", log, "--labels", write_list(tmp_path / "val_map.txt", [6] * 19))
    assert result.exit_code == 3 and "answers photo 19, but the list has 19" in result.stderr


def test_compare_by_number_of_the_photo(tmp_path: Path, run: Callable[..., Any]) -> None:
    np.savez(tmp_path / "other.npz", prediction=np.arange(50, dtype=np.int16), label=np.zeros(50, np.int16))
    other = read_answers(tmp_path / "other.npz")
    part = [Labelled("ILSVRC2012_val_00000011.JPEG", 0), Labelled("ILSVRC2012_val_00000003.JPEG", 0)]
    same = compare({0: 10, 1: 2}, other, part)
    assert (same.compared, same.differences, same.first_only, same.second_only) == (2, [], 0, 48)
    unlike = compare({0: 10, 1: 3}, other, part)
    assert unlike.differences == [("ILSVRC2012_val_00000003.JPEG", 3, 2)]
    # Without the list photo 0 is photo 0.
    assert [one.photo for one in compare({0: 0, 1: 3}, other).differences] == ["1"]
    with pytest.raises(MlperfError, match="has no number"):
        compare({0: 1}, other, [Labelled("cat.jpg", 1)])
    with pytest.raises(MlperfError, match="no photo in common"):
        compare({90: 1}, other)

    log = write_log(tmp_path / "log.json", [(0, 10), (1, 3)])
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{one.file},{one.label}\n" for one in part))
    result = run("mlperf", "compare", log, tmp_path / "other.npz", "--labels", labels)
    assert result.exit_code == 1
    assert "different   1" in result.stdout and "ILSVRC2012_val_00000003.JPEG: 3 and 2" in result.stdout
    assert run("mlperf", "compare", log, log).exit_code == 0


def test_the_t4s_answers_are_read(shared_data: Path) -> None:
    answers = read_answers(shared_data / "nvidia-resnet50-int4" / "t4-predictions.npz")
    with np.load(shared_data / "nvidia-resnet50-int4" / "t4-predictions.npz") as arrays:
        labels = [Labelled("", int(label)) for label in arrays["label"]]
    share = accuracy(answers, labels)
    assert (share.right, share.total) == (38052, 50000)
    val10 = read_labels(shared_data / "imagenet-val-10")
    assert all(one.row is not None and one.row in answers for one in val10)


def test_lists_that_cannot_be_right(tmp_path: Path, photos: Path) -> None:
    files = sorted(path.name for path in photos.glob("*.png"))
    good = tmp_path / "list.txt"
    good.write_text("".join(f"{file} 3\n" for file in files))
    assert [photo.file for photo in find_photos(photos, good, 10)] == files
    assert len(find_photos(photos, good, 10, limit=5)) == 5
    for text, words in (
        (f"{files[0]} 10\n", "is not in 0..9"),
        (f"{files[0]} -1\n", "is not an integer"),
        (f"{files[0]}\n", "has no label"),
        (f"{files[0]} 1\n{files[0]} 1\n", "again, first in line 1"),
        ("nowhere.png 1\n", "which is not in"),
        (f"../{photos.name}/{files[0]} 1\n", "is not a name inside"),
        ("", "lists no photos"),
    ):
        bad = tmp_path / "bad.txt"
        bad.write_text(text)
        with pytest.raises(ValueError, match=r"bad\.txt") as caught:
            find_photos(photos, bad, 10)
        assert words in str(caught.value)
