"""The settings of calibration and of fine-tuning; :class:`QuantizeConfig` holds one of each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RangeMethod = Literal["percentile", "minmax", "mse", "entropy"]
WeightRangeMethod = Literal["max", "mse"]


class CalibrationConfig(BaseModel):
    """How ranges are found."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    method: RangeMethod = Field(
        default="percentile", description="how an activation's range follows from its histogram"
    )
    percentile: float = Field(default=99.999, gt=50, le=100, description="per cent of all values that are not clipped")
    weights: WeightRangeMethod = Field(default="max", description="how an output channel's weight range is found")
    bins: int = Field(
        default=8192, ge=16, le=1 << 20, description="bins of a histogram (a power of two), for each sign"
    )
    images: int | None = Field(default=None, ge=1, description="use only the first so many images; all where absent")
    batch: int = Field(default=16, ge=1, description="images per forward pass")
    workers: int = Field(default=2, ge=0, description="processes that decode photos; 0 decodes in the main one")
    seed: int = Field(default=0, ge=0, description="order in which images are drawn")
    save_every: int = Field(
        default=16, ge=1, description="batches between two saved states, where there is a work folder"
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> CalibrationConfig:
        if self.bins & (self.bins - 1):
            raise ValueError(f"bins={self.bins} is not a power of two, so neighbours could not always be merged")
        return self


class AugmentationConfig(BaseModel):
    """How a training image is varied; every draw follows from (seed, epoch, index)."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    crop: Literal["resized", "pad", "centre"] = Field(
        default="resized",
        description="resized: random area and aspect ratio, as for ImageNet; pad: zero border, then a crop, as for "
        "CIFAR; centre: what evaluation sees",
    )
    size: int | None = Field(
        default=None,
        ge=8,
        description="rows and columns of a crop=resized, by default those of evaluation; smaller ones train faster "
        "(progressive resizing)",
    )
    area: tuple[float, float] = Field(
        default=(0.35, 1.0), description="smallest and largest share of the photo in a crop"
    )
    aspect: tuple[float, float] = Field(default=(3 / 4, 4 / 3), description="narrowest and widest crop")
    padding: int = Field(default=4, ge=0, description="pixels of the border for crop=pad")
    flip: float = Field(default=0.5, ge=0, le=1, description="probability of a horizontal flip")
    brightness: float = Field(default=0.0, ge=0, lt=1, description="largest relative change")
    contrast: float = Field(default=0.0, ge=0, lt=1, description="largest relative change")
    saturation: float = Field(default=0.0, ge=0, lt=1, description="largest relative change")

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        for name in ("area", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name == "area" and high > 1):
                raise ValueError(f"{name}={(low, high)} is not a range of positive numbers (area: at most 1)")
        return self


class TrainingConfig(BaseModel):
    """How a quantized network is fine-tuned."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    epochs: int = Field(default=15, ge=0)
    batch: int = Field(default=64, ge=1, description="images per step and process, all accumulated ones together")
    accumulate: int = Field(default=1, ge=1, description="parts that a batch is divided into, to save memory")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=1e-3, gt=0, description="after the warm-up")
    final_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the learning rate that the cosine ends at"
    )
    warmup_epochs: float = Field(default=0.5, ge=0, description="epochs (fractions too) of linear warm-up")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0, description="of weights only: not of biases, scales, batch norms")
    scale_rate: float = Field(
        default=1.0, ge=0, description="factor on the learning rate of learned step sizes; 0: they stay as they are"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    distillation: float = Field(default=0.0, ge=0, le=1, description="share of the loss that follows the teacher")
    temperature: float = Field(default=2.0, gt=0, description="of the distillation")
    features: float = Field(
        default=0.0,
        ge=0,
        description="weight of the blocks' relative squared error against the teacher's, which then has to be the "
        "network itself in floating point",
    )
    damping: float = Field(
        default=0.0,
        ge=0,
        description="against weights that oscillate between two codes: weight of their squared distance from their "
        "codes, which grows from 0 to this value in the course of training",
    )
    mixup: float = Field(
        default=0.0, ge=0, description="alpha of the beta distribution by which pairs of photos are blended; 0: none"
    )
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay a step of the averaged weights; 0: none")
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    amp: Literal["off", "float16", "bfloat16"] = Field(
        default="off", description="mixed precision; float16 on a GPU only"
    )
    compile: bool = Field(
        default=False, description="compile the fake quantizers with torch.compile; on a CPU, with a C++ compiler"
    )
    range_batches: int = Field(
        default=8,
        ge=0,
        description="batches (of each process) for the fresh histograms before each epoch; 0: ranges stay",
    )
    range_epochs: int | None = Field(
        default=None, ge=0, description="re-adjust ranges before the first so many epochs only"
    )
    reestimate_batches: int = Field(
        default=0, ge=0, description="batches from which batch norms are estimated anew at first"
    )
    freeze_batch_norm: bool = True
    seed: int = Field(default=0, ge=0)
    workers: int = Field(default=2, ge=0, description="processes that decode and augment; 0 does it in the main one")
    save_every: int | None = Field(default=None, ge=1, description="steps between two checkpoints within an epoch")
    augmentation: AugmentationConfig = Field(default_factory=AugmentationConfig)

    @model_validator(mode="after")
    def _divisible(self) -> TrainingConfig:
        if self.augmentation.size is not None and self.augmentation.crop != "resized":
            raise ValueError(f"augmentation.size={self.augmentation.size} is for crop=resized only")
        if self.batch % self.accumulate:
            raise ValueError(f"batch={self.batch} cannot be cut into accumulate={self.accumulate} equal parts")
        return self


class ReconstructionConfig(BaseModel):
    """How roundings are learned, block by block, from images without labels."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    images: int | None = Field(default=1024, ge=1, description="use only the first so many images; all where absent")
    iterations: int = Field(default=2000, ge=1, description="of the optimizer, for each block")
    batch: int = Field(default=32, ge=1, description="images per iteration, drawn from all")
    chunk: int = Field(default=32, ge=1, description="images per forward pass when values are cached")
    rate: float = Field(default=1e-2, gt=0, description="Adam's learning rate of the rounding variables")
    step_rate: float = Field(
        default=2e-3, ge=0, description="learning rate of activation step sizes, as a share of them; 0: they stay"
    )
    bias_rate: float = Field(
        default=1e-3, ge=0, description="learning rate of biases, as a share of the layer's largest; 0: they stay"
    )
    drop: float = Field(
        default=0.5, ge=0, lt=1, description="probability that an activation's element stays unquantized (QDrop)"
    )
    regularizer: float = Field(default=1.0, ge=0, description="weight of the term that drives roundings to 0 or 1")
    sharpness: tuple[float, float] = Field(default=(20.0, 2.0), description="its exponent at first and at the end")
    warmup: float = Field(
        default=0.3, ge=0, lt=1, description="share of the iterations without that term; step sizes learn only in them"
    )
    compile: bool = Field(
        default=False, description="compile the fake quantizers with torch.compile; on a CPU, with a C++ compiler"
    )
    seed: int = Field(default=0, ge=0)


class MixedConfig(BaseModel):
    """How bits are chosen by layer."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    criterion: Literal["sqnr", "accuracy"] = Field(
        default="sqnr",
        description="what a group of layers costs in 4 bits: noise of the logits, or top-1 lost (labels needed)",
    )
    four: Literal["w4a4", "w4a8"] = Field(
        default="w4a4", description="what layers of 4 bits have: activations of 4 bits too, or of 8"
    )
    share_of: Literal["multiplications", "weights"] = Field(
        default="multiplications", description="what four_bit_share is a share of: work, or size"
    )
    images: int | None = Field(default=256, ge=1, description="use only the first so many images; all where absent")
    timed_images: int = Field(default=4, ge=1, description="different images that the engine is timed on")
    runs: int = Field(default=7, ge=1, description="times that each of them runs")
    threads: int | None = Field(default=None, ge=1, description="the engine's; all cores where absent")
