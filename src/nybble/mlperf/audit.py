"""MLPerf's audit tests for image classification, run on existing results.

Settings and tolerances are those of ``audit.config`` and ``verify_performance.py`` in the folder ``compliance`` of
mlcommons/inference; TEST05 is asked for up to v4.1 and has been removed since (pull request 1925).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nybble.images import LeftOut
from nybble.mlperf import conf
from nybble.mlperf.accuracy import compare, read_answers
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.layout import RUN, Layout, layouts, place, read_json, scenarios, staging
from nybble.mlperf.process import execute
from nybble.mlperf.request import Request, about_run, photos_of, prepare_job
from nybble.mlperf.result import ACCURACY, Result, read_result
from nybble.mlperf.subject import open_subject
from nybble.progress import Progress, silent

TESTS = ("TEST01", "TEST04", "TEST05")

_SAMPLING = {"accuracy_log_rng_seed": 720381539243781796, "accuracy_log_sampling_target": 4096}
_SAME_PHOTO = 3
_SAME = {"performance_issue_unique": False, "performance_issue_same": True, "performance_issue_same_index": _SAME_PHOTO}
_SEEDS = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
_TOLERANCE = {"TEST01": 0.10, "TEST04": 0.10, "TEST05": 0.05}
#: The tolerance for latencies up to this number of milliseconds, which vary more. TEST04's script compares a rate with
#: the limit, so that every latency counts as short there.
_SHORT_TOLERANCE = 0.20
_SHORT = {"SingleStream": 0.2, "MultiStream": 1.6}


class Verdict(NamedTuple):
    """The outcome of a test of a scenario, with a line that says what was compared."""

    scenario: str
    test: str
    passed: bool
    text: str


def audit(out: Path, tests: Sequence[str] = TESTS, progress: Progress = silent) -> list[Verdict]:
    """Run tests for every scenario that has a performance run; logs go to ``compliance``.

    Parameters
    ----------
    out : Path
        What ``nybble mlperf run`` has written.
    tests : sequence of str
        Of ``TESTS``.
    progress : Progress

    Raises
    ------
    MlperfError
        Where there is nothing to audit, the network or the photos have changed since, TEST01 has no accuracy run to
        compare with, TEST04 no photo number 3, or a run fails.
    """
    verdicts = []
    for layout in layouts(out):
        for scenario in scenarios(layout):
            if layout.performance(scenario).is_dir():
                verdicts += _scenario(layout, scenario, tests, progress)
    if not verdicts:
        raise MlperfError(f"{out}: has no performance run to audit")
    return verdicts


def _scenario(layout: Layout, scenario: str, tests: Sequence[str], progress: Progress) -> list[Verdict]:
    about = read_json(layout.measurements(scenario) / RUN)
    try:
        fields = dict(about["request"])
        for name in ("model", "images", "labels", "conf", "user_conf"):
            fields[name] = None if fields.get(name) is None else Path(fields[name])
        request = Request(**fields)
        settings = dict(about["runs"]["performance"]["settings"])
    except (KeyError, TypeError) as error:
        raise MlperfError(f"{layout.measurements(scenario) / RUN}: cannot be used: {error}") from error
    reference = read_result(layout.performance(scenario))
    subject = open_subject(request.model, request.name)
    photos = photos_of(request, subject)
    now = about_run(request, subject, photos)
    if any(now[key] != about[key] for key in ("model_digest", "photos_digest")):
        raise MlperfError(f"{layout.out}: the network or the photos are others than those of its {scenario} run")
    job = prepare_job(request, subject, photos, settings, progress, LeftOut(photos.left_out))
    base = conf.builtin(scenario)
    verdicts = []
    for test in tests:
        if test == "TEST01" and not (layout.accuracy(scenario) / ACCURACY).is_file():
            raise MlperfError(f"TEST01 compares with the {scenario} accuracy run, which is missing from {layout.out}")
        if test == "TEST04" and job.performance_count <= _SAME_PHOTO:
            raise MlperfError(f"TEST04 needs {_SAME_PHOTO + 1} photos at least, there are {job.performance_count}")
        with staging(layout.out) as stage:
            logs = stage / "run_1"
            logs.mkdir()
            changed = {**settings, **_changes(test, base)}
            changed_job = replace(job, task="performance", settings=changed, logs=str(logs))
            execute(changed_job, progress, f"{scenario}, {test}, photos")
            verdict = _verdict(layout, scenario, test, reference, read_result(logs), logs)
            _place(layout, verdict, stage, logs)
        verdicts.append(verdict)
    return verdicts


def _changes(test: str, base: Mapping[str, Any]) -> dict[str, Any]:
    if test == "TEST01":
        return _SAMPLING
    if test == "TEST04":
        return _SAME
    return {name: base[f"test05_{name}"] for name in _SEEDS}


def _as_wanted(test: str, before: Result, after: Result) -> tuple[bool, str]:
    """Whether a figure is within the tolerance of another, and what would be: TEST04 no faster, TEST05 no slower."""
    latency = before.unit == "ms"
    short = latency and (test == "TEST04" or before.figure <= _SHORT[before.scenario])
    tolerance = _SHORT_TOLERANCE if short else _TOLERANCE[test]
    least, most = 1 - tolerance, 1 + tolerance
    ratio = after.figure / before.figure
    if test == "TEST01":
        return least <= ratio <= most, f"{least:g} to {most:g}"
    if test == "TEST05":
        return (ratio < most, f"less than {most:g}") if latency else (ratio > least, f"more than {least:g}")
    # Of a latency the speed counts, its inverse.
    return (ratio * most > 1, f"more than {1 / most:.3f}") if latency else (ratio < most, f"less than {most:g}")


def _verdict(layout: Layout, scenario: str, test: str, before: Result, after: Result, logs: Path) -> Verdict:
    """Speed as the test wants it, and for TEST01 the same answers as in the accuracy run."""
    passed, wanted = _as_wanted(test, before, after)
    text = f"{after} after {before}: {after.figure / before.figure:.3f} of it, {wanted} wanted"
    passed = passed and before.valid and after.valid
    if test == "TEST01":
        compared = compare(read_answers(layout.accuracy(scenario), "int32"), read_answers(logs, "int32"))
        passed = passed and not compared.differences and not compared.second_only
        text += f"; {len(compared.differences)} of {compared.compared} answers differ from the accuracy run"
    return Verdict(scenario, test, passed, text)


def _place(layout: Layout, verdict: Verdict, stage: Path, logs: Path) -> None:
    folder = stage / verdict.test
    (folder / "performance").mkdir(parents=True)
    shutil.move(logs, folder / "performance" / "run_1")
    line = f"{verdict.text}\nTEST {'PASS' if verdict.passed else 'FAIL'}\n"
    (folder / "verify_performance.txt").write_text(line, encoding="utf-8")
    if verdict.test == "TEST01":
        (folder / "accuracy").mkdir()
        shutil.copyfile(folder / "performance" / "run_1" / ACCURACY, folder / "accuracy" / ACCURACY)
        (folder / "verify_accuracy.txt").write_text(line, encoding="utf-8")
    place(folder, layout.compliance(verdict.scenario, verdict.test))
