"""The contents of LoadGen's logs: the figure of a scenario, and whether it is valid or why not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nybble.mlperf.errors import MlperfError

DETAIL, SUMMARY, ACCURACY = "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_accuracy.json"
_MARK = ":::MLLOG"
#: The value that MLPerf compares in each scenario, and its unit.
_FIGURES = {
    "Offline": ("result_samples_per_second", "samples/s"),
    "Server": ("result_completed_samples_per_sec", "samples/s"),
    "SingleStream": ("early_stopping_latency_ss", "ms"),
    "MultiStream": ("early_stopping_latency_ms", "ms"),
}


@dataclass(frozen=True)
class Result:
    """A performance run.

    Attributes
    ----------
    scenario : str
    valid : bool
    figure : float
        The figure that MLPerf compares: samples per second, or the early-stopping estimate of a latency percentile in
        milliseconds (0 if there were too few queries).
    unit : str
    reasons : tuple of str
        Why it is not valid, in plain words.
    values : mapping
        All of the detail log, by LoadGen's keys.
    """

    scenario: str
    valid: bool
    figure: float
    unit: str
    reasons: tuple[str, ...]
    values: Mapping[str, Any]

    @property
    def percentiles(self) -> dict[str, float]:
        """Milliseconds of a query (MultiStream) or a sample, by percentile: ``{"50": ..., "99.9": ...}``."""
        tail = "_percentile_per_query_latency_ns" if self.scenario == "MultiStream" else "_percentile_latency_ns"
        return {
            f"{float(name[len('result_') : -len(tail)]):g}": number(self.values, name) / 1e6
            for name in self.values
            if name.startswith("result_") and name.endswith(tail)
        }

    def __str__(self) -> str:
        valid = "VALID" if self.valid else "INVALID"
        return f"{self.figure:.2f} {self.unit}, {valid}"


def read_detail(path: Path) -> dict[str, Any]:
    """The values of a detail log by their keys, the last where one comes twice; ``errors``, a list of texts; ``path``.

    Raises
    ------
    MlperfError
        Where it cannot be read or is no such log.
    """
    values: dict[str, Any] = {}
    errors: list[str] = []
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.startswith(_MARK):
                entry = json.loads(line[len(_MARK) :])
                values[entry["key"]] = entry["value"]
                if entry.get("metadata", {}).get("is_error"):
                    errors.append(str(entry["value"]))
    except (OSError, UnicodeDecodeError) as error:
        raise MlperfError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MlperfError(f"{path}: is not a detail log of LoadGen: {error}") from error
    if "effective_scenario" not in values:
        raise MlperfError(f"{path}: is not a detail log of LoadGen: it names no scenario")
    return {**values, "errors": errors, "path": str(path)}


def number(values: Mapping[str, Any], name: str) -> float:
    """A number of a detail log. Raises :class:`MlperfError` where there is none of that name."""
    try:
        return float(values[name])
    except (KeyError, TypeError, ValueError):
        raise MlperfError(
            f"{values.get('path', DETAIL)}: is not a complete detail log of LoadGen: it has no number {name}"
        ) from None


def read_result(folder: Path) -> Result:
    """The outcome of a performance run from its logs. Raises :class:`MlperfError` where they are not those of one."""
    path = folder / DETAIL
    values = read_detail(path)
    scenario = str(values["effective_scenario"])
    name, unit = _FIGURES.get(scenario, ("", ""))
    if name not in values or "result_validity" not in values:
        raise MlperfError(f"{path}: has no result; the run did not reach its end, or was no performance run")
    figure = number(values, name)
    if unit == "ms":
        # LoadGen writes the largest number there is where it has no estimate.
        figure = figure / 1e6 if figure < 1 << 62 else 0.0
    valid = values["result_validity"] == "VALID"
    return Result(scenario, valid, figure, unit, () if valid else explain(values), values)


def explain(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Why LoadGen calls a run INVALID, from the values of its detail log, with what helps."""
    scenario = values["effective_scenario"]
    reasons = []
    if values.get("result_min_duration_met") is False:
        seconds = number(values, "effective_min_duration_ms") / 1000
        remedy = {
            "Offline": f"raise Offline.target_qps, now {values.get('effective_target_qps')}, so that more photos come",
            "Server": "raise Server.min_query_count or Server.target_qps, so that more queries come",
        }.get(scenario, f"lower {scenario}.target_latency, so that LoadGen prepares more queries")
        reasons.append(f"it ended before the minimum duration of {seconds:g} s: {remedy}")
    if values.get("result_min_queries_met") is False:
        reasons.append(
            f"it ended before the minimum of {values.get('effective_min_query_count')} queries: "
            f"raise {scenario}.max_duration, or leave it out"
        )
    if values.get("result_perf_constraints_met") is False:
        bound = number(values, "effective_target_latency_ns") / 1e6
        share = number(values, "effective_target_latency_percentile")
        late = values.get("result_overlatency_query_count")
        reasons.append(
            f"fewer than {share:.0%} of the queries were answered within {bound:g} ms ({late} of "
            f"{values.get('result_query_count')} were late): lower Server.target_qps, "
            f"now {values.get('effective_target_qps')}; --find-peak looks for the highest that holds"
        )
    if values.get("early_stopping_met") is False:
        if scenario == "Server" and values.get("result_perf_constraints_met") is not False:
            count, late = values.get("result_query_count"), values.get("result_overlatency_query_count")
            more = re.search(r"at least (\d+)\s+more", str(values.get("early_stopping_result", "")))
            reasons.append(
                f"{count} queries, {late} of them late, are too few to be sure of the percentile (early stopping): "
                f"raise Server.min_query_count by {more[1] if more else 'some'} at least, or lower Server.target_qps; "
                "with none late 459 queries suffice"
            )
        elif scenario in ("SingleStream", "MultiStream"):
            least = 64 if scenario == "SingleStream" else 662
            reasons.append(
                f"{values.get('result_query_count')} queries are too few to be sure of the percentile "
                f"(early stopping): keep {scenario}.min_query_count at {least} or more"
            )
    return tuple(reasons) or (str(values.get("result_invalid_reason") or "LoadGen's summary gives no reason"),)
