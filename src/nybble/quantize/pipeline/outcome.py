"""The result of a run, as the command prints it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nybble import schemas
from nybble.disturbance import warning
from nybble.images import LeftOut, LeftOutPhoto
from nybble.quantize.pipeline.settings import PipelineConfig
from nybble.quantize.train import Evaluation, OutputEvaluation, agreement, compare
from nybble.statistics import Discordance, Share


@dataclass
class Stage:
    """One network on the selection photos.

    Attributes
    ----------
    name : str
        ``float``, ``calibrated``, ``fine-tuned`` or ``integer engine``.
    evaluation : Evaluation
    against_float : Discordance or None
        The difference to the float network (the first stage) in right answers; ``None`` without labels.
    same_as_float : Share or None
        Photos that both put into the same class.
    bytes : int or None
        Bytes of all constants, if the network exists in this form.
    images_per_second : float or None
        Speed; ``None`` for networks with fake quantizers, which are not meant to be fast.
    outputs : OutputEvaluation or None
        Of a network that is not a classifier, in place of answers.
    """

    name: str
    evaluation: Evaluation
    against_float: Discordance | None = None
    same_as_float: Share | None = None
    bytes: int | None = None
    images_per_second: float | None = None
    outputs: OutputEvaluation | None = None

    @property
    def output_noise(self) -> dict[str, float]:
        """Of each output of a network that is not a classifier."""
        return {} if self.outputs is None else self.outputs.noise

    @property
    def score(self) -> float:
        """What stages are compared by: right answers, or without labels those of the float network; less noise."""
        if self.outputs is not None:
            return -self.outputs.mean_noise
        if self.evaluation.top1 is not None:
            return self.evaluation.top1.right
        return 0 if self.same_as_float is None else self.same_as_float.right

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        against = self.against_float
        return {
            "name": self.name,
            **self.evaluation.to_dict(),
            "against_float": None
            if against is None
            else {
                "difference": against.difference,
                "interval": against.interval,
                "float_only": against.first_only,
                "this_only": against.second_only,
                "p_value": against.p_value,
            },
            "same_top1_as_float": None if self.same_as_float is None else self.same_as_float.value,
            "same_top1_as_float_interval": None if self.same_as_float is None else self.same_as_float.interval,
            "outputs": None if self.outputs is None else self.outputs.to_dict(),
            "bytes": self.bytes,
            "images_per_second": self.images_per_second,
        }


@dataclass
class Outcome:
    """The outcome of :func:`nybble.quantize.pipeline.quantize`.

    Attributes
    ----------
    source, out : str, Path
    config : PipelineConfig
        As it was used, every layer and activation listed.
    train, selection : int
        Photos.
    selection_origin : str
    stages : list of Stage
        In order; the first is the float network, the last the integer engine.
    kept : str
        The stage whose weights became the integer network.
    task : str or None
        The kind of task that the model directory states.
    threads, batch, isa : int, int, str
        Of the speeds.
    disturbance : dict or None
        Shares of the machine that others used while speeds were measured, by :class:`nybble.disturbance.Watch`.
    same_as_fake : float
        Share of selection photos that engine and fake-quantized network put into the same class.
    largest_rescale_error : float
        Of rounding factors, in steps of a result.
    training : list of dict
        Figures of each epoch.
    photos : dict
        Unusual properties of training photos.
    found_no_photos : list of LeftOutPhoto
        Files beside the photos that are not photos.
    details : dict
        Results of the methods, such as the chosen bits.
    seconds : float
    """

    source: str
    out: Path
    config: PipelineConfig
    train: int = 0
    selection: int = 0
    selection_origin: str = ""
    stages: list[Stage] = field(default_factory=list)
    kept: str = ""
    task: str | None = None
    threads: int = 0
    batch: int = 0
    isa: str = ""
    disturbance: dict[str, float] | None = None
    same_as_fake: float = 1.0
    largest_rescale_error: float = 0.0
    training: list[dict[str, float]] = field(default_factory=list)
    photos: dict[str, Any] = field(default_factory=dict)
    found_no_photos: list[LeftOutPhoto] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def add(
        self, name: str, evaluation: Evaluation, *, size: int | None = None, outputs: OutputEvaluation | None = None
    ) -> Stage:
        """Append a stage, compared with the first."""
        against = same = None
        if self.stages and outputs is None:
            first = self.stages[0].evaluation
            against = compare(first, evaluation) if evaluation.labels else None
            same = agreement(first, evaluation)
        self.stages.append(Stage(name, evaluation, against, same, size, outputs=outputs))
        return self.stages[-1]

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def left_out(self) -> LeftOut:
        """Photos that could not be used, wherever they were met."""
        reports = [*self.photos.values(), *(stage.evaluation.report.to_dict() for stage in self.stages)]
        failed = [
            LeftOutPhoto(entry["name"], entry["reason"]) for found in reports for entry in found.get("failed", ())
        ]
        return LeftOut((*self.found_no_photos, *failed))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "schema": schemas.QUANTIZE,
            "source": self.source,
            "out": str(self.out),
            "bits": self.config.bits.value,
            "method": self.config.method,
            "seed": self.config.seed,
            "images": {"train": self.train, "selection": self.selection, "selection_origin": self.selection_origin},
            "left_out": self.left_out.to_json(),
            "exif": self.config.exif,
            "stages": [stage.to_dict() for stage in self.stages],
            "kept": self.kept,
            "task": self.task,
            "speed": {"threads": self.threads, "batch": self.batch, "isa": self.isa},
            "disturbance": self.disturbance,
            "warning": warning(self.disturbance),
            "same_top1_as_fake_quantized": self.same_as_fake,
            "largest_rescale_error": self.largest_rescale_error,
            "training": self.training,
            "photos": self.photos,
            "details": self.details,
            "seconds": self.seconds,
        }
