from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nybble.mlperf import conf
from nybble.mlperf.errors import MlperfError, MlperfWarning


def write(folder: Path, text: str) -> Path:
    path = folder / "some.conf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("user", [False, True])
@pytest.mark.parametrize("first", ["*.*.min_duration = 7", "resnet50.*.min_duration = 7", "# a comment"])
def test_a_byte_order_mark_takes_no_line_away(tmp_path: Path, first: str, user: bool) -> None:
    text = f"{first}\n*.*.min_query_count = 9\n"
    plain = conf.read(write(tmp_path, text), "Offline", user=user)
    path = tmp_path / "marked.conf"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert conf.read(path, "Offline", user=user) == plain
    # In the middle, where files were joined, it makes a name that nobody has.
    path.write_bytes(b"# one\n\xef\xbb\xbf*.*.min_duration = 7\n")
    with pytest.warns(MlperfWarning, match=r"marked\.conf:2: has no effect here"):
        assert conf.read(path, "Offline", user=user) == {}


def test_lines_of_a_user_conf_that_loadgen_never_reads_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "*.Offline.target_latency_percentile = 99\n")
    with pytest.warns(MlperfWarning, match="LoadGen reads no target_latency_percentile in Offline"):
        conf.read(path, "Offline", user=True)
    assert conf.read(path, "Offline", user=False) == {}


def test_the_more_specific_line_wins_and_units_are_those_of_loadgen(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# a comment\n"
        "*.*.min_duration = 1000\n"
        "*.Server.min_duration = 2000 # of this scenario\n"
        "resnet50.*.target_latency = 15\n"
        "*.Server.target_latency_percentile = 99\n"
        "bert.Server.min_duration = 1\n",
    )
    # A user.conf that speaks of another benchmark is probably not meant so.
    with pytest.warns(MlperfWarning, match=r"some\.conf:6: has no effect here: 'bert\.Server\.min_duration' is not of"):
        conf.read(path, "Server", user=True)
    path.write_text("\n".join(path.read_text().splitlines()[:5]))
    server = conf.read(path, "Server", user=True)
    assert server["min_duration_ms"] == 2000
    assert server["server_target_latency_ns"] == 15_000_000
    assert server["server_target_latency_percentile"] == pytest.approx(0.99)
    single = conf.read(path, "SingleStream", user=True)
    assert single["min_duration_ms"] == 1000
    assert single["single_stream_expected_latency_ns"] == 15e6
    assert conf.read(path, "Offline", user=True) == {"min_duration_ms": 1000}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("resnet50.Offline.min_durration = 1", "no key 'min_durration'; did you mean min_duration?"),
        ("resnet50.Ofline.min_duration = 1", "no scenario 'Ofline'; did you mean Offline?"),
        ("resnet5.Offline.min_duration = 1", "no model 'resnet5'; did you mean resnet50?"),
        ("min_duration = 1", "model.scenario.key"),
        ("*.*.min_duration 1", "expected 'model.scenario.key = value'"),
        ("*.*.min_duration = 1 2", "expected 'model.scenario.key = value'"),
        ("*.*.min_duration = soon", "is not an integer"),
        ("*.*.min_duration = 1.5", "is not an integer"),
        ("*.*.min_duration = -1", "must be from 0"),
        ("*.*.performance_issue_same = 2", "must be 0 or 1"),
        ("*.Offline.target_qps = nan", "must be from 0"),
        ("*.SingleStream.target_qps = 5", "does not count in SingleStream, only in Server, Offline"),
        ("*.*.qsl_rng_seed = 5", "belongs to mlperf.conf"),
        ("*.*.mode = 1", "--mode"),
        ("*.Server.ttft_latency = 1", "language models"),
    ],
)
def test_what_loadgen_would_swallow_is_one_error(tmp_path: Path, line: str, words: str) -> None:
    path = write(tmp_path, f"\n{line}\n")
    with pytest.raises(MlperfError) as caught:
        conf.read(path, "Offline", user=True)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert words in str(caught.value)


def test_seeds_come_from_mlperf_conf_only(tmp_path: Path) -> None:
    path = write(tmp_path, "*.*.qsl_rng_seed = 18446744073709551615\n*.Server.target_duration = 0\n")
    assert conf.read(path, "Server", user=False) == {"qsl_rng_seed": 2**64 - 1}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MlperfError, match=r"nowhere\.conf: cannot be read"):
        conf.read(tmp_path / "nowhere.conf", "Server", user=True)


@pytest.mark.parametrize("scenario", ["Offline", "SingleStream", "MultiStream", "Server"])
def test_what_is_written_is_read_back(loadgen: Any, tmp_path: Path, scenario: str) -> None:
    base = conf.builtin(scenario)
    assert base["min_duration_ms"] == 600_000
    assert base["performance_sample_count_override"] == 1024
    keys = ("min_duration_ms", "performance_sample_count_override")
    settings = {**base, **dict.fromkeys(keys, 17)}
    if scenario != "Offline":
        prefix = {"SingleStream": "single_stream", "MultiStream": "multi_stream", "Server": "server"}[scenario]
        settings[f"{prefix}_target_latency_percentile"] = 0.97
    else:
        settings["offline_expected_qps"] = 123.456
    text = conf.text(scenario, settings, base)
    read = conf.read(write(tmp_path, text), scenario, user=True)
    assert {**base, **read} == pytest.approx(settings)
    assert set(read) == {name for name in settings if settings[name] != base[name]}


def test_loadgen_knows_each_setting_by_its_name(loadgen: Any) -> None:
    for scenario in ("Offline", "SingleStream", "MultiStream", "Server"):
        settings = loadgen.TestSettings()
        for name, value in conf.builtin(scenario).items():
            setattr(settings, name, value)
