"""The settings of all stages; one YAML file holds them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nybble.graph import GraphError, Preprocessing
from nybble.graph.task import TASKS
from nybble.graph.task_file import task_fields, task_of_fields
from nybble.quantize.config import Bits, QuantizeConfig
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import TrainingConfig

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_COPIED = ("resize", "crop", "interpolation", "mean", "std", "fit", "channel_order", "fill", "placement")
#: Photos to calibrate with, unless the configuration says otherwise.
CALIBRATION_IMAGES = 1000
#: Networks for photos up to this size are trained with shifted photos, larger ones with parts of them.
_SMALL = 64


#: How a network is distilled, unless the configuration says otherwise: see docs/finetune.md, "Few photos".
_DISTILLED: dict[str, Any] = {
    "distillation": 1.0,
    "temperature": 10.0,
    "features": 5.0,
    "optimizer": "adamw",
    "learning_rate": 2e-4,
    "scale_rate": 0.25,
    "weight_decay": 0.0,
}


def distilled(training: TrainingConfig) -> None:
    """Let training follow the float network alone; settings that are not the defaults stay."""
    defaults = TrainingConfig()
    for name, value in _DISTILLED.items():
        if name == "distillation" or getattr(training, name) == getattr(defaults, name):
            setattr(training, name, value)


class PreprocessingConfig(BaseModel):
    """How a photo becomes the network's input. Absent fields are those of the source."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    resize: int | None = Field(default=None, ge=1, description="pixels of the short side; the crop's, if only that is")
    crop: tuple[int, int] | None = Field(default=None, description="rows and columns of the input")
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = Field(default=None, description="of each channel, of samples from 0 to 1")
    std: tuple[float, ...] | None = Field(default=None, description="of each channel")
    fit: Literal["crop", "stretch", "letterbox", "none"] | None = Field(
        default=None, description="how a photo is brought to the size of the input"
    )
    channel_order: Literal["RGB", "BGR"] | None = Field(default=None, description="of the input, mean and deviation")
    fill: int | None = Field(default=None, ge=0, le=255, description="of a letterbox's border")
    placement: Literal["corner", "centre"] | None = Field(default=None, description="of the photo in a letterbox")
    input_range: float | None = Field(
        default=None,
        gt=0,
        description="largest magnitude of the normalised input; by default that of black and white. More for noise",
    )

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> PreprocessingConfig:
        """All of a preprocessing; ``input_range`` only where the scale is not what follows from the rest."""
        chosen = {name: getattr(preprocessing, name) for name in _COPIED}
        if preprocessing.fit != "crop":
            del chosen["resize"]
        derived = cls(**chosen).applied(Preprocessing())
        if derived != preprocessing:
            maximum = preprocessing.input_type.maximum
            scale = preprocessing.scale_denominator / preprocessing.scale_numerator
            chosen["input_range"] = scale * maximum
        return cls(**chosen)

    def applied(self, base: Preprocessing) -> Preprocessing:
        """``base`` with what is set here; the input's s8 scale covers black and white, or ``input_range``.

        Raises
        ------
        QuantizeError
            Naming the field that makes no sense.
        """
        chosen: dict[str, Any] = {name: getattr(base, name) for name in _COPIED}
        given = self.model_dump(exclude_none=True)
        reach = given.pop("input_range", None)
        if given.get("fit", base.fit) != "letterbox":
            chosen["fill"] = chosen["placement"] = None
        if given.get("fit", base.fit) != "crop" and "resize" in given:
            raise QuantizeError("preprocessing.resize: is for fit=crop; other fits resize to the size of the input")
        if "crop" in given and "resize" not in given:
            given["resize"] = max(given["crop"])
        chosen |= given
        if reach is None and all(chosen[name] == getattr(base, name) for name in chosen):
            return base
        try:
            # The constructor says what is wrong before the scale is computed from it.
            Preprocessing(**chosen)
            sizes = [
                max(abs(mean), abs(1 - mean)) / std for mean, std in zip(chosen["mean"], chosen["std"], strict=True)
            ]
            scale = {"scale_numerator": 127.0, "scale_denominator": reach or round(max(sizes), 4)}
            same = reach is None and all(chosen[name] == getattr(base, name) for name in ("mean", "std"))
            return Preprocessing(**chosen, **({} if same else scale))
        except GraphError as error:
            raise QuantizeError(f"preprocessing.{error.field}: {error}") from error


class PipelineConfig(QuantizeConfig):
    """A :class:`QuantizeConfig`, and the settings of the other stages.

    Attributes
    ----------
    preprocessing : PreprocessingConfig
    task : dict, optional
        What the outputs mean: ``kind`` and the keys of the file ``task``, in its own words (docs/tasks.md).
    class_names : tuple of str, optional
        Names of the classes, one for each.
    noise : float, optional
        Standard deviation, in samples of 0 to 255, of noise that is added to photos: what a denoiser is shown.
    exif : bool
        Turn photos upright as their EXIF orientation says; by default they are read as torchvision does.
    equalize : bool
        Even out channels between layers before calibration (Nagel et al. 2019).
    scale_channels : bool, optional
        Make the channels of each value alike, and give those beside depthwise layers steps of their own, before
        calibration; by default where the network is not a classifier.
    fit_channels : bool
        Give channels behind a ReLU6 ranges of their own before calibration.
    correct_bias : bool
        Subtract the average error that rounding causes in a channel, after calibration.
    reconstruct : bool
        Learn how to round, block by block, after calibration, as ``reconstruction`` says.
    min_accuracy, speed : float, optional
        With bits ``mixed``, choose between 4 and 8 bits layer by layer: the fastest network of at least so many per
        cent of top-1 on the selection photos once calibrated, or the best one that is so many times as fast as in
        8 bits.
    four_bit_share : float, optional
        With bits ``mixed``, the share of multiplications by 4-bit weights among those that may have them (not the
        first layer, depthwise layers and those before an output); those are chosen that make the least noise.
    selection_share : float
        Share of the training photos that is split off for selection where there are no others for it.
    seed : int
        Draws that split and the weights of a source that has none, and stands for the seeds of calibration and
        training that are not set themselves.
    batch : int
        Photos together in evaluations.
    report_images : int
        Photos on which the report compares the networks value by value.
    """

    preprocessing: PreprocessingConfig = PreprocessingConfig()
    task: dict[str, Any] | None = None
    class_names: tuple[str, ...] | None = None
    noise: float | None = Field(default=None, gt=0)
    exif: bool = False
    equalize: bool = False
    scale_channels: bool | None = None
    fit_channels: bool = False
    correct_bias: bool = False
    reconstruct: bool = False
    min_accuracy: float | None = Field(default=None, ge=0, le=100)
    speed: float | None = Field(default=None, ge=1)
    four_bit_share: float | None = Field(default=None, gt=0, le=1)
    selection_share: float = Field(default=0.1, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    batch: int = Field(default=16, ge=1)
    report_images: int = Field(default=16, ge=1)

    @property
    def from_float(self) -> bool:
        """Whether a method is selected that starts from the float network."""
        return bool(
            self.equalize
            or self.scale_channels
            or self.fit_channels
            or self.correct_bias
            or self.reconstruct
            or self.has_budget
        )

    @property
    def has_budget(self) -> bool:
        """Whether bits are to be chosen by measuring."""
        return any(budget is not None for budget in self._budgets)

    @property
    def _budgets(self) -> tuple[float | None, ...]:
        return self.min_accuracy, self.speed, self.four_bit_share

    @field_validator("task")
    @classmethod
    def _known_task(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        """The keys with the types that the task's file has; what is wrong is named."""
        if given is None:
            return None
        try:
            return task_fields(task_of_fields(given))
        except KeyError as error:
            raise ValueError(f"unknown kind {error}, known: {', '.join(TASKS)}") from None
        except (GraphError, TypeError, ValueError) as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _one_budget(self) -> PipelineConfig:
        names = "min_accuracy, speed and four_bit_share"
        if sum(budget is not None for budget in self._budgets) > 1:
            raise ValueError(f"give one of {names}")
        if self.has_budget and self.bits is not Bits.MIXED:
            raise ValueError(f"{names} choose between bits, so they need bits=mixed, not {self.bits}")
        if self.has_budget and (self.layers or self.activations):
            raise ValueError(f"{names} choose the bits of all layers, so `layers` must be left out")
        return self

    def resolved(self, preprocessing: Preprocessing, photos: int) -> PipelineConfig:
        """A copy in which defaults that depend on the network's input and the number of training photos are set."""
        config = self.model_copy(deep=True)
        config.preprocessing = PreprocessingConfig.of(preprocessing)
        calibration, training = config.calibration, config.training
        for part in (calibration, training, config.reconstruction):
            if "seed" not in part.model_fields_set:
                part.seed = config.seed
        if "images" not in calibration.model_fields_set and photos > CALIBRATION_IMAGES:
            calibration.images = CALIBRATION_IMAGES
        if "batch" not in training.model_fields_set and photos < training.batch * training.accumulate:
            training.batch = max(1, photos // training.accumulate) * training.accumulate
        if "crop" not in training.augmentation.model_fields_set and max(preprocessing.crop) <= _SMALL:
            training.augmentation.crop = "pad"
            if "padding" not in training.augmentation.model_fields_set:
                training.augmentation.padding = max(1, max(preprocessing.crop) // 8)
        return config
