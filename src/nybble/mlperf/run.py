"""Runs one scenario: prepares the photos, measures the targets for LoadGen, runs it, and puts the logs in place."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nybble.disturbance import Watch
from nybble.images import LeftOut, PhotoFile, PhotoFiles
from nybble.mlperf import conf, describe, extra
from nybble.mlperf.accuracy import accuracy, accuracy_text, read_answers
from nybble.mlperf.conf import Settings
from nybble.mlperf.errors import MlperfError
from nybble.mlperf.job import ESTIMATE, Job
from nybble.mlperf.labels import LEFT_OUT, Labelled
from nybble.mlperf.layout import README, RUN, USER_CONF, Layout, place, read_json, staging, write_json
from nybble.mlperf.peak import find_peak
from nybble.mlperf.process import execute
from nybble.mlperf.request import Request, about_run, photos_of, prepare_job, stated_settings
from nybble.mlperf.result import ACCURACY, Result, read_result
from nybble.mlperf.scenarios import MODES, SCENARIOS
from nybble.mlperf.subject import Subject, open_subject
from nybble.progress import Progress, silent
from nybble.statistics import Share

#: LoadGen prepares queries for this part of the latency measured, so that it does not run out of them.
_EXPECTED_LATENCY = 0.5
#: And photos for this multiple of the throughput measured; it adds a tenth itself.
_EXPECTED_QPS = 1.05
#: A trial of the search for the highest rate, at most.
_TRIAL_MS = 10_000
#: Queries from which on Server can be valid (early stopping at 99 %).
_SERVER_QUERIES = 459
#: A rate found in short trials is lowered by so much until a whole run holds.
_STEP_BACK = 0.95
#: Whole runs at most, where one is not valid because of what was measured beforehand.
_TRIES = 4


@dataclass
class Outcome:
    """The result of a request.

    Attributes
    ----------
    performance : Result or None
    accuracy : Share or None
    shortfalls : list of str
        Why it is not a submission.
    folders : list of Path
        Where the logs are.
    run : dict
        The contents of ``run.json``.
    photos : list of PhotoFile
        Those that ran, by LoadGen's numbers.
    left_out : LeftOut
    """

    shortfalls: list[str]
    run: dict[str, Any]
    performance: Result | None = None
    accuracy: Share | None = None
    folders: list[Path] = field(default_factory=list)
    photos: list[PhotoFile] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)


def run(request: Request, out: Path, progress: Progress = silent) -> Outcome:
    """Run a scenario and put everything that a submission needs into ``out``.

    Raises
    ------
    MlperfError, ImageError, ModelFormatError
        One error that names the file, line or setting; ``out`` has nothing of the run then.
    """
    if request.scenario not in SCENARIOS or request.mode not in MODES:
        raise MlperfError(f"scenario {request.scenario!r} or mode {request.mode!r} is not known")
    if request.find_peak and request.scenario != "Server":
        raise MlperfError("only Server has a highest rate to find; leave --find-peak out")
    extra.loadgen()
    base = conf.builtin(request.scenario)
    stated = stated_settings(request)
    subject = open_subject(request.model, request.name)
    photos = photos_of(request, subject)
    layout = Layout(out, request.submitter, request.system or describe.system_name())
    about = about_run(request, subject, photos)
    earlier = _earlier(layout, request.scenario, about)
    with staging(out) as stage:
        runner = _Runner(request, subject, photos, {**base, **stated}, stage, progress)
        runner.set_expectations(stated)
        watch = Watch()
        outcome = runner.run(base, about)
        outcome.run["disturbance"] = watch.taken()
        outcome.run["runs"] = {**earlier, **outcome.run["runs"]}
        _place(request, subject, layout, outcome, base, stage)
    return outcome


class _Runner:
    """The runs of one request."""

    def __init__(
        self,
        request: Request,
        subject: Subject,
        photos: PhotoFiles,
        settings: Settings,
        stage: Path,
        progress: Progress,
    ) -> None:
        self.request = request
        self.settings = settings
        self.stage = stage
        self.progress = progress
        self.left_out = LeftOut(photos.left_out)
        self.job = prepare_job(request, subject, photos, settings, progress, self.left_out)
        rows = range(len(photos)) if self.job.rows is None else self.job.rows
        self.photos = [photos[row] for row in rows]
        # LoadGen asks for no more photos at a time than there are.
        wanted = int(settings["performance_sample_count_override"]) or len(self.photos)
        settings["performance_sample_count_override"] = min(wanted, len(self.photos))
        self.job = replace(self.job, performance_count=min(wanted, len(self.photos)))
        self.estimate: dict[str, Any] = {}
        self.expected: Settings = {}
        self.peak = False
        self.trials: list[dict[str, Any]] = []

    def set_expectations(self, stated: Settings) -> None:
        """The targets for LoadGen that the files do not set, measured."""
        scenario, settings = self.request.scenario, self.settings
        self.progress("measuring batches", 0, None)
        self.estimate = execute(replace(self.job, task=ESTIMATE))
        self.progress("measuring batches", 1, 1)
        single, batch = self.estimate["single_seconds"], self.estimate["batch_seconds"]
        throughput = max(1 / single, self.job.batch / batch)
        expected: Settings = {
            "Offline": {"offline_expected_qps": _EXPECTED_QPS * throughput},
            "SingleStream": {"single_stream_expected_latency_ns": _EXPECTED_LATENCY * single * 1e9},
            "MultiStream": {
                "multi_stream_expected_latency_ns": _EXPECTED_LATENCY
                * 1e9
                * int(settings["multi_stream_samples_per_query"] if scenario == "MultiStream" else 1)
                / throughput
            },
            "Server": {"server_target_qps": 0.5 * throughput},
        }[scenario]
        self.expected = {name: value for name, value in expected.items() if name not in stated}
        settings.update(self.expected)
        searches = self.request.find_peak or "server_target_qps" not in stated
        self.peak = scenario == "Server" and searches and self.request.mode != "accuracy"
        if self.peak:
            bound = settings["server_target_latency_ns"] / 1e9
            if single >= bound:
                raise MlperfError(
                    f"a photo alone takes {1e3 * single:.1f} ms, the latency bound is {1e3 * bound:g} ms: "
                    "raise Server.target_latency in the user.conf"
                )
            settings["server_target_qps"] = find_peak(self._holds, throughput)

    def run(self, base: Settings, about: dict[str, Any]) -> Outcome:
        """Run accuracy first, since it can be wrong."""
        shortfalls = describe.shortfalls(self.settings, base, len(self.photos))
        engine = {name: self.estimate[name] for name in ("isa", "threads", "tuned")}
        if self.left_out:
            first = next(iter(self.left_out))
            count = len(self.left_out)
            shortfalls.append(f"{count} photo{'s' * (count != 1)} left out, such as {first.file}: {first.reason}")
        known = {"photos": len(self.photos), "left_out": self.left_out.to_json()}
        outcome = Outcome(shortfalls, {**about, **known, "shortfalls": shortfalls, "runs": {}})
        outcome.photos, outcome.left_out = self.photos, self.left_out
        if self.request.mode in ("accuracy", "submission"):
            self._execute("accuracy", self.stage / "accuracy", len(self.photos))
            log = self.stage / "accuracy" / ACCURACY
            answers = read_answers(log, "int32")
            if len(answers) != len(self.photos):
                raise MlperfError(f"LoadGen asked for {len(answers)} of the {len(self.photos)} photos")
            labels = [Labelled(photo.file, photo.label) for photo in self.photos if photo.label is not None]
            outcome.accuracy = accuracy(answers, labels)
            (self.stage / "accuracy" / "accuracy.txt").write_text(accuracy_text(outcome.accuracy, log))
            if self.left_out:
                # Numbers in the log are those of the photos that are left.
                write_json(self.stage / "accuracy" / LEFT_OUT, self.left_out.to_json())
            outcome.run["runs"]["accuracy"] = {**engine, "batch": self.job.batch, "settings": dict(self.settings)}
        if self.request.mode in ("performance", "submission"):
            for left in reversed(range(_TRIES)):
                self._execute("performance", self.stage / "performance", self._expected_samples())
                outcome.performance = read_result(self.stage / "performance")
                if outcome.performance.valid or not left or not self._correct(outcome.performance):
                    break
            outcome.run["runs"]["performance"] = {**engine, "batch": self.job.batch, "settings": dict(self.settings)}
            outcome.run["peak"] = self.peak
            outcome.run["trials"] = self.trials
        return outcome

    def _correct(self, result: Result) -> bool:
        """Whether another run may be valid, because an expectation that no file states was wrong; it is set anew."""
        late = result.values["result_min_duration_met"] is not False
        if self.peak and late:
            self.settings["server_target_qps"] *= _STEP_BACK
            return True
        name = next((name for name in self.expected if name != "server_target_qps"), None)
        if name is None or late:
            return False
        # The machine was slower when it was measured.
        faster = result.figure * _EXPECTED_QPS if name == "offline_expected_qps" else self.settings[name] / 2
        self.settings[name] = faster
        return True

    def _expected_samples(self) -> int | None:
        if self.request.scenario == "Offline":
            expected = 1.1 * self.settings["min_duration_ms"] / 1000 * self.settings["offline_expected_qps"]
            return int(max(self.settings["min_query_count"], expected))
        return None

    def _execute(self, task: str, logs: Path, total: int | None) -> None:
        what = {"accuracy": "accuracy run, photos", "performance": "performance run, photos"}[task]
        self._start(replace(self.job, task=task, settings=self.settings), logs, what, total)

    def _start(self, job: Job, logs: Path, what: str, total: int | None) -> dict[str, Any]:
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir()
        self.progress(what, 0, total)
        answer = execute(replace(job, logs=str(logs)), self.progress, what, total)
        self.progress(what, 1, 1)
        return answer

    def _holds(self, rate: float) -> bool:
        """Whether a short run at a rate is valid; one that cannot be any more is ended."""
        settings = self.settings
        duration = min(settings["min_duration_ms"], _TRIAL_MS)
        count = min(settings["min_query_count"], _SERVER_QUERIES)
        queries = max(int(count), int(rate * duration / 1000))
        late = (1 - settings["server_target_latency_percentile"]) * queries
        changes = {"server_target_qps": rate, "min_duration_ms": duration, "min_query_count": count}
        job = replace(self.job, task="performance", settings={**settings, **changes}, most_late=math.ceil(late))
        what = f"trial {len(self.trials) + 1} of the rate, {rate:.1f} queries/s, photos"
        answer = self._start(job, self.stage / "trial", what, queries)
        valid = "late" not in answer and read_result(self.stage / "trial").valid
        self.trials.append({"target_qps": rate, "valid": valid})
        return valid


def _earlier(layout: Layout, scenario: str, about: dict[str, Any]) -> dict[str, Any]:
    """The runs there are: accuracy and performance of a scenario must be those of one network on one list."""
    path = layout.measurements(scenario) / RUN
    if not path.is_file():
        return {}
    earlier = read_json(path)
    for key, what in (("model_digest", "another network"), ("photos_digest", "other photos")):
        if earlier.get(key) != about[key]:
            raise MlperfError(f"{layout.out}: has {scenario} results of {what}; give --out another folder")
    return dict(earlier.get("runs", {}))


def _gpu(request: Request, outcome: Outcome) -> str | None:
    """What an engine on a GPU calls it. An emulated one is not an accelerator."""
    if request.device != "cuda":
        return None
    return next((str(run["isa"]) for run in outcome.run["runs"].values() if "isa" in run), None)


def _place(request: Request, subject: Subject, layout: Layout, outcome: Outcome, base: Settings, stage: Path) -> None:
    scenario = request.scenario
    measurements = stage / "measurements"
    measurements.mkdir()
    runs = outcome.run["runs"]
    settings = runs.get("performance", runs.get("accuracy"))["settings"]
    (measurements / USER_CONF).write_text(conf.text(scenario, settings, base), encoding="utf-8")
    readme = describe.readme(request.name, scenario, outcome.run["photos"], outcome.shortfalls)
    (measurements / README).write_text(readme, encoding="utf-8")
    write_json(
        measurements / layout.implementation(scenario).name, describe.implementation(subject.graphs, request.name)
    )
    write_json(measurements / RUN, outcome.run)
    if request.conf is not None:
        shutil.copyfile(request.conf, measurements / "mlperf.conf")
    system, note = stage / "system.json", stage / "calibration.md"
    write_json(system, describe.system_description(layout.system, request.submitter, _gpu(request, outcome)))
    card = request.model / README
    note.write_text(describe.calibration_note(request.name, card if card.is_file() else None), encoding="utf-8")
    # Fields that the user may have filled in are kept.
    for staged, final in ((system, layout.system_file), (note, layout.calibration)):
        if not final.exists():
            place(staged, final)
    place(measurements, layout.measurements(scenario))
    for name, final in (("accuracy", layout.accuracy(scenario)), ("performance", layout.performance(scenario))):
        if (stage / name).is_dir():
            place(stage / name, final)
            outcome.folders.append(final)
