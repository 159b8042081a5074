"""LoadGen's conf files: ``model.scenario.key = value``.

LoadGen reads such files itself, but accepts any key silently, reads numbers by their first digits, and reads seeds
from its built-in configuration only. So nybble reads the files, checks every key, and passes the settings to LoadGen by
their names in ``TestSettings``. If several lines give one setting, the order of LoadGen decides: ``model.scenario``,
``*.scenario``, ``model.*``, ``*.*``. A later file takes precedence over an earlier one.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from nybble.mlperf import extra
from nybble.mlperf.errors import MlperfError, MlperfWarning
from nybble.mlperf.scenarios import BENCHMARK, PREFIX, SCENARIOS

#: By the names of LoadGen's ``TestSettings``.
Settings: TypeAlias = "dict[str, int | float | bool]"

_NS = 1_000_000  # a millisecond, in which files state latencies
_PERCENT = 0.01
_STREAMS = ("SingleStream", "MultiStream")


@dataclass(frozen=True)
class _Key:
    """Where a key counts, the setting it means (``{}`` stands for the scenario's prefix), and its kind."""

    setting: str
    kind: type = int
    scenarios: tuple[str, ...] = SCENARIOS
    factor: float = 1
    mlperf_only: bool = False


def _many(kind: type, *names: str, mlperf_only: bool = False) -> dict[str, _Key]:
    return {name: _Key(name, kind, mlperf_only=mlperf_only) for name in names}


_KEYS: dict[str, tuple[_Key, ...]] = {
    name: (key,)
    for name, key in {
        **_many(int, "qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed", mlperf_only=True),
        **_many(int, "test05_qsl_rng_seed", "test05_sample_index_rng_seed", mlperf_only=True),
        **_many(int, "test05_schedule_rng_seed", mlperf_only=True),
        **_many(bool, "performance_issue_unique", "performance_issue_same", "sample_concatenate_permutation"),
        **_many(bool, "print_timestamps"),
        **_many(int, "performance_issue_same_index", "performance_sample_count_override"),
        **_many(int, "accuracy_sample_count_override", "min_query_count", "max_query_count"),
        **_many(int, "accuracy_log_rng_seed", "accuracy_log_sampling_target"),
        "accuracy_log_probability": _Key("accuracy_log_probability", float, factor=_PERCENT, mlperf_only=True),
        "min_duration": _Key("min_duration_ms"),
        "max_duration": _Key("max_duration_ms"),
        "target_latency_percentile": _Key("{}_target_latency_percentile", float, (*_STREAMS, "Server"), _PERCENT),
        "samples_per_query": _Key("multi_stream_samples_per_query", int, ("MultiStream",)),
        "coalesce_queries": _Key("server_coalesce_queries", bool, ("Server",)),
        "max_async_queries": _Key("server_max_async_queries", int, ("Server",)),
    }.items()
}
_KEYS["target_latency"] = (
    _Key("server_target_latency_ns", int, ("Server",), _NS),
    _Key("{}_expected_latency_ns", float, _STREAMS, _NS),
)
_KEYS["target_qps"] = (
    _Key("server_target_qps", float, ("Server",)),
    _Key("offline_expected_qps", float, ("Offline",)),
)
#: Lines of LoadGen's own mlperf.conf that it never reads.
_UNREAD = {("Server", "target_duration"), ("Offline", "target_latency_percentile")}
#: Keys of language models.
_TOKENS = {
    "use_token_latencies",
    "ttft_latency",
    "tpot_latency",
    "infer_token_latencies",
    "token_latency_scaling_factor",
}


class _Line(NamedTuple):
    place: str
    value: str


def builtin(scenario: str) -> Settings:
    """LoadGen's built-in configuration for the benchmark, without any file. Raises :class:`MlperfError` without it."""
    base = extra.loadgen().TestSettings()
    base.FromConfig("", BENCHMARK, scenario, 0)
    return {name: getattr(base, name) for name in _names(scenario)}


def read(path: Path, scenario: str, *, user: bool) -> Settings:
    """The settings of a scenario that a file states.

    Parameters
    ----------
    path : Path
    scenario : str
    user : bool
        Whether it is a ``user.conf``, which may not set seeds.

    Raises
    ------
    MlperfError
        Naming file and line: unreadable, no ``key = value``, an unknown key or scenario, a value of the wrong kind.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MlperfError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    lines: dict[str, _Line] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        content = raw.split("#", 1)[0].split()
        place = f"{path}:{number}"
        if not content:
            continue
        if len(content) != 3 or content[1] != "=":
            raise MlperfError(f"{place}: expected 'model.scenario.key = value', got {raw.strip()[:60]!r}")
        _check(content[0], content[2], place, user)
        lines[content[0]] = _Line(place, content[2])
    settings: Settings = {}
    for name, keys in _KEYS.items():
        wanted = (f"{BENCHMARK}.{scenario}", f"*.{scenario}", f"{BENCHMARK}.*", "*.*")
        line = next((lines[f"{where}.{name}"] for where in wanted if f"{where}.{name}" in lines), None)
        key = next((key for key in keys if scenario in key.scenarios), None)
        if line is not None and key is not None:
            settings[key.setting.format(PREFIX[scenario])] = _value(key, line)
    return settings


def text(scenario: str, settings: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """What differs from the base, as the lines of a ``user.conf``."""
    lines = ["# What nybble mlperf run told LoadGen beyond its built-in configuration."]
    for name, keys in _KEYS.items():
        key = next((key for key in keys if scenario in key.scenarios), None)
        setting = key.setting.format(PREFIX[scenario]) if key is not None else ""
        if key is not None and not key.mlperf_only and settings.get(setting) != base.get(setting):
            value = settings[setting] / key.factor if key.factor != 1 else settings[setting]
            shown = int(value) if key.kind in (int, bool) else f"{value:.10g}"
            lines.append(f"{BENCHMARK}.{scenario}.{name} = {shown}")
    return "\n".join(lines) + "\n"


def _names(scenario: str) -> list[str]:
    return [
        key.setting.format(PREFIX[scenario]) for keys in _KEYS.values() for key in keys if scenario in key.scenarios
    ]


def _check(name: str, value: str, place: str, user: bool) -> None:
    """Whether LoadGen would do anything with the line."""
    parts = name.rsplit(".", 2)  # Models may have dots in their names (wan-2.2); scenario and key have none.
    if len(parts) != 3 or not all(parts):
        raise MlperfError(f"{place}: {name!r} is not model.scenario.key; * stands for any model or scenario")
    model, scenario, key = parts
    if scenario != "*" and scenario not in SCENARIOS:
        raise MlperfError(f"{place}: there is no scenario {scenario!r}{_meant(scenario, SCENARIOS)}")
    if model not in ("*", BENCHMARK):
        if difflib.get_close_matches(model, [BENCHMARK], cutoff=0.7):
            raise MlperfError(f"{place}: there is no model {model!r}{_meant(model, (BENCHMARK,))}")
        # An mlperf.conf has many of other benchmarks.
        if user or not model.isprintable():
            warnings.warn(f"{place}: has no effect here: {name!r} is not for {BENCHMARK}", MlperfWarning, stacklevel=4)
        return
    if key == "mode":
        raise MlperfError(f"{place}: the mode is what --mode says; remove the line")
    if key in _TOKENS:
        raise MlperfError(f"{place}: {key} is for language models; remove the line")
    if (scenario, key) in _UNREAD:
        if user:
            warnings.warn(
                f"{place}: has no effect: LoadGen does not read {key} in {scenario}", MlperfWarning, stacklevel=4
            )
        return
    if key not in _KEYS:
        raise MlperfError(f"{place}: LoadGen has no key {key!r}{_meant(key, _KEYS)}")
    places = [one for entry in _KEYS[key] for one in entry.scenarios]
    if scenario != "*" and scenario not in places:
        raise MlperfError(f"{place}: {key} does not count in {scenario}, only in {', '.join(places)}")
    if user and any(entry.mlperf_only for entry in _KEYS[key]):
        raise MlperfError(f"{place}: {key} belongs to mlperf.conf (--conf), a user.conf may not set it")
    for entry in _KEYS[key]:
        if scenario == "*" or scenario in entry.scenarios:
            _value(entry, _Line(place, value))


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"


def _value(key: _Key, line: _Line) -> int | float | bool:
    try:
        value = float(line.value) if key.kind is float else int(line.value, 0)
    except ValueError:
        kind = "a number" if key.kind is float else "an integer"
        raise MlperfError(f"{line.place}: {line.value!r} is not {kind}") from None
    if not 0 <= value < 1 << 64 or (key.kind is bool and value > 1):
        allowed = "0 or 1" if key.kind is bool else "from 0 to 18446744073709551615"
        raise MlperfError(f"{line.place}: {line.value} must be {allowed}")
    return key.kind(value * key.factor if key.factor != 1 else value)  # type: ignore[no-any-return]
