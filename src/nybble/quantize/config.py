"""How each layer is quantized: read from and written to YAML."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
import yaml

from nybble.graph import DType
from nybble.graph.types import ACTIVATIONS
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import CalibrationConfig, MixedConfig, ReconstructionConfig, TrainingConfig


class Bits(StrEnum):
    """Presets: bits of weights and of activations.

    The first layer has 8-bit weights and an 8-bit input, the last linear layer 8-bit weights and a u7 input, and
    a projection shortcut passes through s8, whatever the preset. ``mixed`` is ``w4a4`` with depthwise layers, and what
    they read, in 8 bits.
    """

    W4A4 = "w4a4"
    W4A8 = "w4a8"
    W8A8 = "w8a8"
    MIXED = "mixed"

    @property
    def weights(self) -> int:
        """Bits of weights."""
        return 8 if self is Bits.W8A8 else 4

    @property
    def activations(self) -> int:
        """Bits of activations: 8 stands for u7 or s8."""
        return 4 if self in (Bits.W4A4, Bits.MIXED) else 8


class _Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", validate_assignment=True)


class LayerConfig(_Model):
    """A convolution or linear layer.

    Attributes
    ----------
    weight_bits : int
        2 to 8; fewer than 4 are held in 4.
    """

    weight_bits: int = pydantic.Field(default=4, ge=2, le=8)


class ActivationConfig(_Model):
    """A value that is rounded to integers: the result of a layer or an addition, its activation function included.

    Attributes
    ----------
    dtype : DType
        u4, u7 or u8 where nothing is negative, else s4 or s8.
    shift : int, optional
        Of the requantization that makes it, 0 to 31; by default ``convert`` chooses.
    """

    dtype: DType
    shift: int | None = pydantic.Field(default=None, ge=0, le=31)

    @pydantic.field_validator("dtype")
    @classmethod
    def _activation(cls, dtype: DType) -> DType:
        if dtype not in ACTIVATIONS:
            raise ValueError(f"an activation cannot be {dtype}; choose from {', '.join(ACTIVATIONS)}")
        return dtype


class QuantizeConfig(_Model):
    """Everything that decides how a network is quantized.

    ``prepare`` fills ``layers`` and ``activations`` from the preset for every name that is not there, so that what
    :meth:`save` writes afterwards is complete and can be changed by hand.
    """

    bits: Bits = Bits.W4A4
    method: Literal["ste", "lsq"] = "ste"
    calibration: CalibrationConfig = CalibrationConfig()
    training: TrainingConfig = TrainingConfig()
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    mixed: MixedConfig = MixedConfig()
    layers: dict[str, LayerConfig] = {}
    activations: dict[str, ActivationConfig] = {}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read YAML.

        Raises
        ------
        QuantizeError
            Naming the file and the fields at fault.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise QuantizeError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, name: str = "configuration") -> Self:
        """Read YAML text; ``name`` stands in errors for where it came from."""
        try:
            content: Any = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise QuantizeError(f"{name}: is not YAML: {error}") from error
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise QuantizeError(f"{name}: must hold a mapping from fields to values")
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise QuantizeError(f"{name}: {faults}") from None

    def dump(self) -> str:
        """The configuration as YAML text."""
        text: str = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        return text

    def save(self, path: str | Path) -> None:
        """Write YAML.

        Raises
        ------
        QuantizeError
            If the file cannot be written.
        """
        try:
            Path(path).write_text(self.dump(), encoding="utf-8")
        except OSError as error:
            raise QuantizeError(f"{path}: cannot be written: {error.strerror or error}") from error
