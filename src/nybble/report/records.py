"""The JSON documents that a report reads: what ``bench``, ``evaluate``, ``profile`` and ``quantize`` write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nybble import schemas
from nybble.report.errors import ReportError
from nybble.statistics import Share


class Record(BaseModel):
    """Fields that are not named here are ignored: later versions add some."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Spread(Record):
    """Quartiles and extremes over the rounds."""

    quartiles: tuple[float, float]
    extremes: tuple[float, float]


class Latency(Record):
    """Percentiles of the seconds of a call."""

    p50: float
    p90: float
    p99: float


class Run(Record):
    """A contestant at a batch size."""

    contestant: str
    engine: str
    bits: int
    mode: str
    activations: str
    isa: str | None
    threads: int
    batch: int
    images_per_second: float = Field(gt=0)
    images_per_second_spread: Spread
    latency: Latency
    peak_rss_bytes: int | None
    top1: float | None
    wrong: bool | None


class Side(Record):
    """One side of a ratio."""

    contestant: str
    batch: int


class RatioSpread(Spread):
    """A ratio's spread, and the two contestants that were compared."""

    of: Side
    to: Side


class Ratio(Record):
    """Medians of paired ratios; ``None`` where a side is missing or wrong."""

    best_batch: float | None
    batch_1: float | None
    best_batch_spread: RatioSpread | None = None
    batch_1_spread: RatioSpread | None = None


class Ceiling(Record):
    """The rate of a loop."""

    name: str
    isa: str
    threads: int
    unit: str
    best: float = Field(gt=0)
    median: float | None = None


class Kernel(Record):
    """How a layer ran."""

    method: str
    block_outputs: int
    tile_pixels: int


class BenchLayer(Record):
    """A convolution or linear layer beside the ceilings."""

    name: str
    method: str | None
    isa: str
    seconds: float = Field(gt=0)
    macs: int
    gmacs_per_second: float = Field(gt=0)
    zero_share: float | None
    bytes: int = Field(ge=0)


class Disturbance(Record):
    """Shares of the processors' time that others took."""

    other_processes: float
    other_guests: float


class Machine(Record):
    """Where it was measured."""

    cpu: str
    family_model: str = ""
    flags: list[str] = Field(default_factory=list)
    missing_flags: list[str] = Field(default_factory=list)
    byte_tiles: bool = False
    hypervisor: bool = False
    usable_cpus: int | None = None
    governor: str | None = None
    load_average: list[float] | None = None
    system: str = ""
    python: str = ""
    disturbance: Disturbance | None = None


class Settings(Record):
    """What ``bench`` was asked for, as far as the page says it."""

    threads: int
    isa: str | None = None
    peer_isa: str | None = None
    seconds: float


class Scaling(Record):
    """How the engine gains by threads beside a loop."""

    threads: int
    batch_1: float | None = None
    best_batch: float | None = None


class Bench(Record):
    """``nybble bench --output``; with ``--ceilings`` alone there are no runs."""

    machine: Machine
    date: str | None = None
    network: str | None = None
    photos: str | None = None
    photo_count: int | None = Field(default=None, gt=0)
    rounds: int | None = None
    photos_per_turn: int | None = None
    settings: Settings | None = None
    contestants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    runs: list[Run] = Field(default_factory=list)
    ratios: dict[str, Ratio] = Field(default_factory=dict)
    scaling: Scaling | None = None
    ceilings: list[Ceiling] = Field(default_factory=list)
    layers: list[BenchLayer] | None = None


class Evaluated(Record):
    """Counts of right answers."""

    images: int = Field(gt=0)
    top1_right: int = Field(ge=0)
    top5_right: int = Field(ge=0)

    @property
    def top1(self) -> Share:
        """Right first answers."""
        return Share(self.top1_right, self.images)

    @property
    def top5(self) -> Share:
        """Right among the first five."""
        return Share(self.top5_right, self.images)


class Evaluation(Evaluated):
    """``nybble evaluate --json``."""

    model: str
    folder: str
    images_per_second: float
    batch: int
    threads: int
    isa: str


class Figure(Record):
    """A metric with its 95 % interval; ``None`` where it is not defined on these photos."""

    value: float | None
    low: float | None
    high: float | None


class TaskEvaluation(Record):
    """``nybble evaluate --json`` of a network that does not classify."""

    model: str
    task: str
    folder: str
    images: int = Field(gt=0)
    noise: float | None = None
    metrics: dict[str, Figure]


class ProfileLayer(Record):
    """A step of the engine."""

    name: str
    head: str
    kind: str
    kernel: Kernel | None
    seconds: float = Field(ge=0)
    macs: int
    bytes: int = 0
    gmacs: float | None
    zero_share: float | None
    share: float


class Profile(Record):
    """``nybble profile --json``."""

    model: str
    inputs: str
    isa: str
    threads: int
    tuned: bool
    images: int
    runs: int
    seconds: float
    run_seconds: float
    macs: int
    gmacs: float
    layers: list[ProfileLayer]
    disturbance: Disturbance | None = None


class Histogram(Record):
    """Bins of equal width from ``start`` on."""

    start: float
    width: float
    counts: list[int]


class TensorRange(Record):
    """A tensor's values and the range chosen for them; files of before 2026-11-26 have no histogram."""

    dtype: str
    values: int
    minimum: float
    maximum: float
    zeros: float
    range: float
    clipped: float
    histogram: Histogram | None = None


class RangeConfig(Record):
    """How ranges were chosen."""

    method: str
    percentile: float


class Calibration(Record):
    """``calibration.json`` of ``nybble quantize --report``."""

    config: RangeConfig
    images: int
    tensors: dict[str, TensorRange]


class AgainstFloat(Record):
    """How a network differs from the float one on the same photos."""

    difference: float
    interval: tuple[float, float]
    float_only: int
    this_only: int
    p_value: float


class Stage(Record):
    """A form of a network that was quantized; without labels nothing was right or wrong."""

    images: int = Field(gt=0)
    top1_right: int | None = Field(ge=0)
    top5_right: int | None = Field(ge=0)
    same_top1_as_float: float | None = None
    name: str
    against_float: AgainstFloat | None
    bytes: int | None
    images_per_second: float | None

    @property
    def top1(self) -> Share | None:
        """Right first answers."""
        return None if self.top1_right is None else Share(self.top1_right, self.images)

    @property
    def top5(self) -> Share | None:
        """Right among the first five."""
        return None if self.top5_right is None else Share(self.top5_right, self.images)


class Speed(Record):
    """Settings of the speeds of stages."""

    threads: int
    batch: int
    isa: str


class Quantization(Record):
    """``result.json`` of ``nybble quantize``."""

    source: str
    out: str
    bits: str
    stages: list[Stage]
    speed: Speed


class EnsembleMember(Record):
    """A network of an ensemble."""

    model: str
    temperature: float
    top1_right: int
    seconds: float = Field(gt=0)


class EnsembleAnswers(Record):
    """Correct answers of an ensemble, and its seconds per photo."""

    top1_right: int
    seconds: float = Field(gt=0)


class CascadePoint(EnsembleAnswers):
    """A cascade at one share of deferred photos."""

    share: float
    deferred: int


class AgainstBest(Record):
    """How an ensemble differs from its best member on the same photos."""

    model: str
    difference: float
    interval: tuple[float, float]
    best_only: int
    ensemble_only: int
    p_value: float


class EnsembleCalibration(Record):
    """``calibrate-ensemble --report``."""

    kind: str
    images: int = Field(gt=0)
    folds: int
    photos: str
    measure: str
    members: list[EnsembleMember] = Field(min_length=2)
    mean: EnsembleAnswers
    points: list[CascadePoint]
    chosen: CascadePoint | None
    top1_right: int
    against_best: AgainstBest
    threads: int
    disturbance: Disturbance | None = None


#: Documents by their ``schema``.
KINDS: dict[str, type[Record]] = {
    schemas.BENCH: Bench,
    schemas.EVALUATE: Evaluation,
    schemas.EVALUATE_TASK: TaskEvaluation,
    schemas.PROFILE: Profile,
    schemas.CALIBRATION: Calibration,
    schemas.QUANTIZE: Quantization,
    schemas.ENSEMBLE: EnsembleCalibration,
}
#: Fields that tell documents that were written before they named a schema.
_TELLING: dict[str, tuple[set[str], ...]] = {
    schemas.BENCH: ({"machine", "runs", "ratios"}, {"machine", "ceilings"}),
    schemas.EVALUATE: ({"folder", "images", "top1_right", "top5_right"},),
    schemas.PROFILE: ({"layers", "run_seconds", "inputs"},),
    schemas.CALIBRATION: ({"tensors", "config", "images"},),
    schemas.QUANTIZE: ({"stages", "kept", "source"},),
}


def read_record(path: Path, content: bytes) -> Record | None:
    """A document of nybble; ``None`` where it is something else.

    Raises
    ------
    ReportError
        Naming the file, and the field where one is wrong: what is not JSON, and what says it is nybble's and is not.
    """
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: is not JSON: {error}; was its command cut short?") from error
    schema = _schema(path, document) if isinstance(document, dict) else None
    if schema is None:
        return None
    try:
        return KINDS[schema].model_validate(document)
    except ValidationError as error:
        raise ReportError(f"{path}: {wrong_field(error)} ({schema})") from error


def wrong_field(error: ValidationError) -> str:
    """The first field that is wrong, and why."""
    first = error.errors(include_url=False)[0]
    return f"field {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"


def _schema(path: Path, document: Mapping[str, Any]) -> str | None:
    named = document.get("schema")
    if isinstance(named, str) and named.startswith("nybble-"):
        if named not in KINDS:
            raise ReportError(
                f"{path}: field schema: {named!r} is not known to this version, which reads {', '.join(KINDS)}"
            )
        return named
    for schema, choices in _TELLING.items():
        if any(fields <= document.keys() for fields in choices):
            return schema
    return None


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
