"""Checks that an output folder has everything that a submission needs, and that its contents are valid."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from nybble.mlperf.accuracy import read_answers
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.layout import PARTIAL, README, RUN, USER_CONF, Layout, layouts, read_json, scenarios
from nybble.mlperf.result import ACCURACY, DETAIL, SUMMARY, number, read_detail, read_result

#: Fields that the descriptions of a submission must have.
SYSTEM_FIELDS = (
    *("division", "submitter", "status", "system_name", "system_type", "number_of_nodes", "framework"),
    *("operating_system", "other_software_stack", "host_processor_model_name", "host_processors_per_node"),
    *("host_processor_core_count", "host_memory_capacity", "host_storage_capacity", "host_storage_type"),
    *("host_networking", "accelerators_per_node", "accelerator_model_name", "cooling", "hw_notes", "sw_notes"),
)
IMPLEMENTATION_FIELDS = (
    *("input_data_types", "retraining", "starting_weights_filename", "weight_data_types", "weight_transformations"),
)


class Finding(NamedTuple):
    """A problem, or a reason why a result is not a submission, with its file or folder."""

    place: Path
    text: str


class Report(NamedTuple):
    """The result of a check.

    Attributes
    ----------
    results : list of (str, str)
        A scenario and its figure or accuracy, of those that are right.
    problems : list of Finding
        Problems: runs to repeat, files to add.
    shortfalls : list of Finding
        Properties that a submission may not have, although they are no mistakes.
    """

    results: list[tuple[str, str]]
    problems: list[Finding]
    shortfalls: list[Finding]


def check(out: Path) -> Report:
    """Look at everything below a folder. Raises :class:`MlperfError` where there is nothing to look at."""
    report = Report([], [], [])
    for rest in sorted(out.glob(f"{PARTIAL}*")):
        report.problems.append(Finding(rest, "a run is under way or was killed; the next run removes it"))
    for layout in layouts(out):
        _fields(report, layout.system_file, SYSTEM_FIELDS)
        _there(report, layout.calibration)
        found = scenarios(layout)
        if not found:
            report.problems.append(Finding(layout.base, f"{layout.system} has no results"))
        for scenario in found:
            _scenario(report, layout, scenario)
    return report


def _scenario(report: Report, layout: Layout, scenario: str) -> None:
    measurements = layout.measurements(scenario)
    for name in (USER_CONF, README):
        _there(report, measurements / name)
    _fields(report, layout.implementation(scenario), IMPLEMENTATION_FIELDS)
    run = _fields(report, measurements / RUN, ("photos", "shortfalls"))
    for reason in run.get("shortfalls", ()):
        report.shortfalls.append(Finding(measurements, reason))
    for folder, check_run, mode in (
        (layout.accuracy(scenario), _accuracy, "accuracy"),
        (layout.performance(scenario), _performance, "performance"),
    ):
        if not folder.is_dir():
            remedy = f"nybble mlperf run --scenario {scenario} --mode {mode} --out {layout.out}"
            report.problems.append(Finding(folder, f"is missing; {remedy}"))
            continue
        try:
            check_run(report, folder, scenario, run)
        except MlperfError as error:
            # The error begins with the place, as every error does.
            report.problems.append(Finding(folder, str(error).removeprefix(f"{folder}/")))


def _accuracy(report: Report, folder: Path, scenario: str, run: dict[str, Any]) -> None:
    text, log = folder / "accuracy.txt", folder / ACCURACY
    if not _all_there(report, folder, SUMMARY, DETAIL, ACCURACY, "accuracy.txt"):
        return
    _logged(report, folder, scenario, "AccuracyOnly")
    answers = read_answers(log, "int32")
    photos = run.get("photos", len(answers))
    if len(answers) != photos:
        report.problems.append(Finding(log, f"answers {len(answers)} photos of {photos}"))
    lines = text.read_text(encoding="utf-8-sig", errors="replace").split()
    if f"hash={hashlib.sha256(log.read_bytes()).hexdigest()}" not in lines:
        report.problems.append(Finding(text, f"does not belong to {ACCURACY}: its hash is another"))
    report.results.append((scenario, lines[0].rstrip(",") if lines else ""))


def _performance(report: Report, folder: Path, scenario: str, run: dict[str, Any]) -> None:
    if not _all_there(report, folder, SUMMARY, DETAIL):
        return
    _logged(report, folder, scenario, "PerformanceOnly")
    result = read_result(folder)
    for reason in result.reasons:
        report.problems.append(Finding(folder, f"INVALID: {reason}"))
    values = result.values
    # LoadGen's verdict, once more from its own numbers.
    issued = number(values, "result_query_count") * number(values, "effective_samples_per_query")
    wanted = number(values, "effective_min_sample_count")
    if result.valid and issued < wanted:
        report.problems.append(Finding(folder, f"has {issued:.0f} samples of {wanted:.0f}"))
    if result.valid:
        report.results.append((scenario, str(result)))


def _logged(report: Report, folder: Path, scenario: str, mode: str) -> None:
    """Whether the detail log is of this scenario and mode, and without errors."""
    values = read_detail(folder / DETAIL)
    for key, wanted in (("effective_scenario", scenario), ("effective_test_mode", mode)):
        if values.get(key) != wanted:
            report.problems.append(Finding(folder / DETAIL, f"{key} is {values.get(key)}, not {wanted}"))
    for error in values["errors"]:
        report.problems.append(Finding(folder / DETAIL, f"LoadGen logged an error: {error}"))
    if "power_end" not in values:  # The last that both modes log of the run itself.
        report.problems.append(Finding(folder / DETAIL, "ends early; the run was killed or its log is cut"))


def _all_there(report: Report, folder: Path, *names: str) -> bool:
    missing = [name for name in names if not _there(report, folder / name)]
    return not missing


def _there(report: Report, path: Path) -> bool:
    if path.is_file() and path.stat().st_size:
        return True
    report.problems.append(Finding(path, "is empty" if path.is_file() else "is missing"))
    return False


def _fields(report: Report, path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    if not _there(report, path):
        return {}
    try:
        value = read_json(path)
    except (MlperfError, json.JSONDecodeError) as error:
        report.problems.append(Finding(path, str(error).removeprefix(f"{path}: ")))
        return {}
    missing = [name for name in names if name not in value]
    if missing:
        report.problems.append(Finding(path, f"lacks {', '.join(missing)}"))
    return value
