"""Whole runs under LoadGen: everything else is checked in smaller tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nybble
from ensembles import write_ensemble
from nybble.images import LabelledFolder, load_photo
from nybble.mlperf.accuracy import read_answers
from nybble.mlperf.audit import _as_wanted
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.job import Job
from nybble.mlperf.layout import layouts
from nybble.mlperf.process import execute
from nybble.mlperf.result import Result, read_detail
from nybble.mlperf.run import _Runner

Run = Callable[..., Any]


def options(photos: Path, short: Path, scenario: str) -> tuple[object, ...]:
    return ("--images", photos, "--user-conf", short, "--scenario", scenario, "--threads", 1, "--system", "box")


def test_answers_are_those_of_the_engine_and_of_evaluate(run: Run, offline: Path, model: Path, photos: Path) -> None:
    log = layouts(offline)[0].accuracy("Offline")
    answers = read_answers(log)
    engine = nybble.load(model, threads=1)
    folder = LabelledFolder(photos)
    samples = np.stack([load_photo(photo.path, engine.graph.preprocessing) for photo in folder])
    assert [answers[i] for i in range(len(folder))] == engine(samples).argmax(axis=1).tolist()
    evaluated = json.loads(run("evaluate", model, "--images", photos, "--threads", 1, "--json").stdout)
    counted = json.loads(run("mlperf", "accuracy", log, "--labels", photos, "--json").stdout)
    assert (counted["right"], counted["photos"]) == (evaluated["top1_right"], evaluated["images"])
    assert (log / "accuracy.txt").read_text().startswith(f"accuracy={100 * evaluated['top1']:.3f}%, good=")


def test_an_ensemble_runs_as_a_network_does(loadgen: Any, run: Run, photos: Path, short: Path, tmp_path: Path) -> None:
    """Its members look at different crops. Another threshold makes it another model."""
    file, out, known = write_ensemble(tmp_path, image=40), tmp_path / "out", tmp_path / "labels.csv"
    rows = [(path.name, place % 6) for place, path in enumerate(sorted(photos.glob("*.png")))]
    known.write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    arguments = (*options(photos, short, "Offline"), "--labels", known, "--out", out)
    result = run("mlperf", "run", file, *arguments, "--mode", "submission", "--json")
    assert result.exit_code == 0, result.output
    answers = read_answers(layouts(out)[0].accuracy("Offline"))
    with nybble.load(file, threads=1) as ensemble:
        wanted = [ensemble.classify([photos / name], top=1, exif=False)[0][0].label for name, _ in rows]
    assert [answers[place] for place in range(len(rows))] == wanted
    assert run("mlperf", "check", out).exit_code == 0
    file.write_text(file.read_text().replace("margin_below = 0.03", "margin_below = 0.04"))
    result = run("mlperf", "run", file, *arguments)
    assert result.exit_code == 3 and "results of another network" in result.stderr


def test_a_whole_run_passes_the_check(run: Run, offline: Path) -> None:
    result = run("mlperf", "check", offline)
    assert result.exit_code == 0, result.output
    assert "complete and valid" in result.stdout
    assert "not a submission: 12 photos instead of the 50000" in result.stdout
    assert not list(offline.glob(".partial-*"))


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server"])
def test_every_scenario_is_valid(
    loadgen: Any, run: Run, model: Path, photos: Path, short: Path, tmp_path: Path, scenario: str
) -> None:
    result = run("mlperf", "run", model, *options(photos, short, scenario), "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["performance"]["valid"] and told["performance"]["figure"] > 0
    assert told["performance"]["latency_ms"]["50"] > 0
    values = read_detail(layouts(tmp_path)[0].performance(scenario) / "mlperf_log_detail.txt")
    assert values["effective_scenario"] == scenario
    assert values["effective_min_duration_ms"] == 200
    assert values["effective_performance_sample_count"] == 12
    # Seeds are the benchmark's, which only mlperf.conf may change.
    assert values["effective_qsl_rng_seed"] == 2085463073848966840
    check = run("mlperf", "check", tmp_path)
    assert check.exit_code == 1
    assert "--mode accuracy" in check.stdout


def test_the_peak_is_searched_where_no_rate_is_given(
    loadgen: Any, run: Run, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nybble.mlperf.peak.PRECISION", 0.4)  # Two trials or three.
    path = tmp_path / "user.conf"
    path.write_text("*.*.min_duration = 100\n*.*.min_query_count = 459\n*.Server.target_latency = 5000\n")
    result = run("mlperf", "run", model, *options(photos, path, "Server"), "--out", tmp_path / "out")
    assert "the highest rate found" in result.stdout, result.output
    assert (
        "resnet50.Server.target_qps" in (layouts(tmp_path / "out")[0].measurements("Server") / "user.conf").read_text()
    )


def test_a_bound_below_a_single_photo_is_one_error(
    loadgen: Any, run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.Server.target_latency = 0\n")
    result = run("mlperf", "run", model, *options(photos, path, "Server"), "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1 and "a photo alone takes" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("expected", "peak", "long_enough", "after"),
    [
        ({"offline_expected_qps": 10.0}, False, False, {"offline_expected_qps": 105.0}),
        ({"single_stream_expected_latency_ns": 10.0}, False, False, {"single_stream_expected_latency_ns": 5.0}),
        ({"server_target_qps": 10.0}, True, True, {"server_target_qps": 9.5}),
        ({"server_target_qps": 10.0}, False, True, None),
        ({}, False, False, None),
    ],
)
def test_what_was_measured_wrong_is_corrected(
    expected: dict[str, float], peak: bool, long_enough: bool, after: dict[str, float] | None
) -> None:
    runner = SimpleNamespace(expected=expected, settings=dict(expected), peak=peak)
    result = SimpleNamespace(figure=100.0, values={"result_min_duration_met": long_enough})
    assert _Runner._correct(runner, result) is (after is not None)  # type: ignore[arg-type]
    assert runner.settings == (after or expected)


def test_an_invalid_run_says_why_and_is_found_by_the_check(
    loadgen: Any, run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.Offline.min_duration = 5000\n*.*.min_query_count = 1\n*.*.target_qps = 1\n")
    result = run("mlperf", "run", model, *options(photos, path, "Offline"), "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "INVALID" in result.stdout and "raise Offline.target_qps, now 1" in result.stdout
    check = run("mlperf", "check", tmp_path / "out")
    assert check.exit_code == 1 and "before the minimum duration of 5 s" in check.stdout


def test_wrong_requests_are_one_error_each(
    loadgen: Any, run: Run, model: Path, photos: Path, short: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    labels = tmp_path / "labels.txt"
    labels.write_text(f"{LabelledFolder(photos)[0].file} 99\n")
    wrong = tmp_path / "wrong.conf"
    wrong.write_text("*.*.min_durration = 5\n")
    plain = options(photos, short, "Offline")
    for arguments, words in (
        (options(empty, short, "Offline"), "labels.csv"),
        ((*plain, "--labels", labels), "label 99"),
        (options(photos, wrong, "Offline"), "min_durration"),
        ((*plain, "--find-peak"), "only Server"),
        ((*plain, "--compare", "t4.npz"), "--mode accuracy"),
        ((*plain, "--submitter", "a/b"), "--submitter"),
    ):
        result = run("mlperf", "run", model, *arguments, "--out", tmp_path / "out")
        assert result.exit_code == (2 if "--compare" in arguments else 3), words
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert words in result.stderr
        assert not (tmp_path / "out").exists()


def test_an_error_inside_the_run_leaves_nothing(
    loadgen: Any, run: Run, model: Path, photos: Path, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NYBBLE_ISA", "nonsense")
    result = run("mlperf", "run", model, *options(photos, short, "Offline"), "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "nonsense" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_nothing_that_passes_for_one(
    loadgen: Any, run: Run, model: Path, photos: Path, short: Path, tmp_path: Path, how: signal.Signals
) -> None:
    path = tmp_path / "user.conf"
    path.write_text("*.*.min_duration = 60000\n*.*.min_query_count = 1000000\n*.*.target_qps = 1\n")
    out = tmp_path / "out"
    arguments = ["mlperf", "run", model, *options(photos, path, "Offline"), "--out", out]
    # A shell's background would hand SIGINT on ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from nybble.cli import app; app()"
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], start_new_session=True)
    logs = "performance/mlperf_log_detail.txt"
    deadline = time.monotonic() + 60
    while not list(out.glob(f".partial-*/{logs}")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    group = os.getpgid(process.pid)
    process.send_signal(how)
    assert process.wait(30) == (130 if how is signal.SIGINT else -how)
    # The process that ran LoadGen is gone too.
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("a process of the run is still there")
    assert not (out / "open").exists()
    check = run("mlperf", "check", out)
    assert check.exit_code == 3 and "has no results" in check.stderr
    if how is signal.SIGINT:
        assert list(out.iterdir()) == []
    else:
        result = run("mlperf", "run", model, *options(photos, short, "Offline"), "--out", out)
        assert result.exit_code == 0, result.output
        assert [path.name for path in out.iterdir()] == ["open"]


def test_results_of_two_networks_do_not_mix(
    run: Run, offline: Path, photos: Path, short: Path, tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(offline, out)
    result = run("mlperf", "run", model, *options(photos, short, "Offline"), "--limit", 5, "--out", out)
    assert result.exit_code == 3 and "results of other photos" in result.stderr
    assert run("mlperf", "check", out).exit_code == 0


def test_the_check_finds_what_is_missing_or_changed(run: Run, offline: Path, tmp_path: Path) -> None:
    def spoiled(spoil: Callable[[Any], object]) -> str:
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(offline, out)
        spoil(layouts(out)[0])
        result = run("mlperf", "check", out)
        assert result.exit_code == 1
        return str(result.stdout)

    def cut(path: Path, keep: float) -> None:
        text = path.read_text()
        path.write_text(text[: int(len(text) * keep)])

    def change(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    assert "lacks cooling" in spoiled(lambda x: change(x.system_file, '"cooling"', '"heating"'))
    assert "is missing" in spoiled(lambda x: (x.measurements("Offline") / "user.conf").unlink())
    assert "--mode accuracy" in spoiled(lambda x: shutil.rmtree(x.accuracy("Offline")))
    assert "is missing" in spoiled(lambda x: (x.performance("Offline") / "mlperf_log_summary.txt").unlink())
    assert "its hash is another" in spoiled(
        lambda x: change(x.accuracy("Offline") / "mlperf_log_accuracy.json", '"seq_id" : 0', '"seq_id" : 7')
    )
    assert "not an accuracy log" in spoiled(lambda x: cut(x.accuracy("Offline") / "mlperf_log_accuracy.json", 0.5))
    # Where the cut falls decides what is wrong with it: half a line, or no result.
    assert "mlperf_log_detail.txt: " in spoiled(lambda x: cut(x.performance("Offline") / "mlperf_log_detail.txt", 0.5))
    assert "AccuracyOnly" in spoiled(
        lambda x: change(x.performance("Offline") / "mlperf_log_detail.txt", '"PerformanceOnly"', '"AccuracyOnly"')
    )
    assert "INVALID" in spoiled(
        lambda x: change(x.performance("Offline") / "mlperf_log_detail.txt", '"value": "VALID"', '"value": "INVALID"')
    )
    assert "under way or was killed" in spoiled(lambda x: (x.out / ".partial-1").mkdir())


@pytest.mark.parametrize(
    ("test", "scenario", "before", "after", "passed"),
    [
        ("TEST01", "Offline", 100, 91, True),
        ("TEST01", "Offline", 100, 111, False),
        ("TEST01", "SingleStream", 5, 5.6, False),
        ("TEST01", "SingleStream", 0.1, 0.115, True),
        ("TEST01", "MultiStream", 1.5, 1.3, True),
        ("TEST04", "Server", 100, 109, True),
        ("TEST04", "Server", 100, 111, False),
        ("TEST04", "Server", 100, 50, True),
        ("TEST04", "SingleStream", 5, 4.2, True),
        ("TEST04", "SingleStream", 5, 4.1, False),
        ("TEST05", "Offline", 100, 94, False),
        ("TEST05", "Offline", 100, 150, True),
        ("TEST05", "MultiStream", 40, 42.1, False),
        ("TEST05", "MultiStream", 40, 20, True),
    ],
)
def test_tolerances_are_those_of_the_audits(
    test: str, scenario: str, before: float, after: float, passed: bool
) -> None:
    unit = "ms" if "Stream" in scenario else "samples/s"
    first, second = (Result(scenario, True, figure, unit, (), {}) for figure in (before, after))
    assert _as_wanted(test, first, second)[0] is passed


def test_audits_run_as_their_tests_say(run: Run, offline: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(offline, out)
    result = run("mlperf", "audit", out, "--json")
    # Speeds of runs of 50 photos mean nothing, so the verdicts may be either.
    assert result.exit_code in (0, 1), result.output
    verdicts = json.loads(result.stdout)
    assert [one["test"] for one in verdicts] == ["TEST01", "TEST04", "TEST05"]
    assert "; 0 of " in verdicts[0]["text"] and "answers differ" in verdicts[0]["text"]
    layout = layouts(out)[0]

    def logged(test: str) -> dict[str, Any]:
        return read_detail(layout.compliance("Offline", test) / "performance" / "run_1" / "mlperf_log_detail.txt")

    sampled = read_answers(layout.compliance("Offline", "TEST01") / "accuracy" / "mlperf_log_accuracy.json")
    assert sampled.items() <= read_answers(layout.accuracy("Offline")).items()
    assert logged("TEST04")["effective_performance_issue_same"] is True
    assert logged("TEST04")["effective_performance_issue_same_index"] == 3
    assert logged("TEST05")["effective_qsl_rng_seed"] == 7975553102935885558
    for verdict in verdicts:
        text = (layout.compliance("Offline", verdict["test"]) / "verify_performance.txt").read_text()
        assert text.endswith(f"TEST {'PASS' if verdict['passed'] else 'FAIL'}\n")
    assert run("mlperf", "audit", out, "--test", "TEST06").exit_code == 2
    assert run("mlperf", "check", out).exit_code == 0


def test_no_detail_log_is_a_traceback_whatever_is_wrong_with_it(run: Run, offline: Path, tmp_path: Path) -> None:
    """Each value that is read is gone, or is something else."""
    out = tmp_path / "out"
    shutil.copytree(offline, out)
    log = layouts(out)[0].performance("Offline") / "mlperf_log_detail.txt"
    text = log.read_text()
    mark = ":::MLLOG "
    for line in text.splitlines(keepends=True):
        entry = json.loads(line.removeprefix(mark))
        others = [json.dumps({**entry, "value": value}) for value in (None, "odd", [])]
        changed = [text.replace(line, ""), *(text.replace(line, f"{mark}{other}\n") for other in (*others, "[]"))]
        # What decides is read by all; the rest of the log is much alike.
        if entry["key"].startswith(("result_", "effective_", "early_", "power_")):
            for damaged in changed:
                log.write_text(damaged)
                result = run("mlperf", "check", out)
                assert result.exit_code in (0, 1, 3), (line, result.output)
                assert "Traceback" not in result.output, (line, result.output)


def test_a_mistake_in_the_process_of_loadgen_keeps_its_traceback(loadgen: Any, model: Path, tmp_path: Path) -> None:
    job = Job("performance", str(model), str(tmp_path / "none"), (1, 32, 32, 3), "Offline", 1, threads=1)
    with pytest.raises(RuntimeError, match=r"in the process that runs LoadGen:\nTraceback(.|\n)*FileNotFoundError"):
        execute(job)
    with pytest.raises(MlperfError, match="nowhere: there is no such folder"):
        execute(replace(job, model="nowhere"))
