"""How a photo becomes a network's integer input: the part of preprocessing that travels with a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.types import ACTIVATIONS, Array, DType

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
#: Pillow's filters, by the names of its ``Resampling`` members in lower case.
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
#: How a photo is brought to the size of the input.
FITS = ("crop", "stretch", "letterbox", "none")
CHANNEL_ORDERS = ("RGB", "BGR")
#: Where a letterbox has the photo: at the top left, with all of the border below and right, or in the middle.
PLACEMENTS = ("corner", "centre")
#: The samples of a letterbox's border, unless it says otherwise.
FILL = 114


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, normalise, quantize.

    ``crop`` (rows, columns) is the size of the input, and ``fit`` says how a photo is brought to it:

    - ``crop``: the short side is resized to ``resize`` pixels and the centre is cut out.
    - ``stretch``: rows and columns are resized, each by its own factor.
    - ``letterbox``: the photo is resized by the largest factor with which it fits, and a border of the sample ``fill``
      (0 to 255) is added. ``placement`` is ``corner`` (the border is below or at the right) or ``centre``.
    - ``none``: the photo must have the size already.

    Photos are resized with Pillow's ``interpolation`` filter. ``resize`` is used by ``crop`` alone, and is the shorter
    side of ``crop`` otherwise; ``fill`` and ``placement`` are ``None`` but for ``letterbox``. The channels of photos,
    ``mean`` and ``std`` are in ``channel_order``, ``RGB`` or ``BGR``. ``(pixel / 255 - mean) / std`` is multiplied by
    ``scale`` (= numerator / denominator), rounded half to even and clipped to ``-limit..limit`` (``0..limit`` for an
    unsigned ``input_type``), the limit being the type's maximum.

    Raises
    ------
    GraphError
        If a value is not valid; its ``field`` names it.
    """

    resize: int = 256
    crop: tuple[int, int] = (224, 224)
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    input_type: DType = DType.S8
    scale_numerator: float = 127.0
    scale_denominator: float = 2.64
    channel_order: str = "RGB"
    fit: str = "crop"
    fill: int | None = None
    placement: str | None = None
    _table: list[Array] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_fit()
        for name in ("resize", "scale_numerator", "scale_denominator"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise GraphError(f"{name}={value} is not a positive number", field=name)
        if self.fit == "crop" and not 0 < min(self.crop) <= max(self.crop) <= self.resize:
            raise GraphError(f"crop {self.crop} is not within the resized short side {self.resize}", field="crop")
        self._check_known("interpolation", INTERPOLATIONS)
        if len(self.mean) not in (1, 3):
            raise GraphError(f"{len(self.mean)} channels, but photos have 1 or 3", field="mean")
        if len(self.std) != len(self.mean):
            raise GraphError(f"{len(self.std)} values for {len(self.mean)} channels", field="std")
        if not all(map(math.isfinite, self.mean)):
            raise GraphError(f"mean {self.mean} is not finite", field="mean")
        if not all(0 < value < math.inf for value in self.std):
            raise GraphError(f"std {self.std} is not positive", field="std")
        if self.input_type not in ACTIVATIONS:
            raise GraphError(f"an input cannot be {self.input_type}", field="input_type")
        self._check_known("channel_order", CHANNEL_ORDERS)
        if self.channel_order != "RGB" and len(self.mean) != 3:
            raise GraphError("photos of one channel have no channel_order", field="channel_order")

    def _check_fit(self) -> None:
        self._check_known("fit", FITS)
        if self.fit != "crop":
            if min(self.crop) < 1:
                raise GraphError(f"crop {self.crop} is not a size of an image", field="crop")
            # Equal preprocessings get the same form.
            object.__setattr__(self, "resize", min(self.crop))
        if self.fit == "letterbox":
            object.__setattr__(self, "fill", FILL if self.fill is None else self.fill)
            object.__setattr__(self, "placement", PLACEMENTS[0] if self.placement is None else self.placement)
            self._check_known("placement", PLACEMENTS)
            if self.fill is not None and not 0 <= self.fill <= 255:
                raise GraphError(f"fill={self.fill} is not a sample of 0 to 255", field="fill")
        else:
            for name in ("fill", "placement"):
                if getattr(self, name) is not None:
                    raise GraphError(f"{name} is for fit=letterbox, not for fit={self.fit}", field=name)

    def _check_known(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise GraphError(f"unknown {name} {value[:40]!r} (known: {', '.join(known)})", field=name)

    def normalise(self, photos: Array) -> Array:
        """uint8 (..., channels) photos to float32 of the same shape: ``(x / 255 - mean) / std``."""
        scaled = photos.astype(np.float32) / np.float32(255)
        mean = np.asarray(self.mean, dtype=np.float32)
        std = np.asarray(self.std, dtype=np.float32)
        normalised: Array = (scaled - mean) / std
        return normalised

    def quantize(self, normalised: Array) -> Array:
        """float32 normalised values of any shape to the integer input type, in float32 arithmetic."""
        scaled = normalised * np.float32(self.scale_numerator) / np.float32(self.scale_denominator)
        high = float(self.input_type.maximum)
        low = -high if self.input_type.is_signed else 0.0
        quantized: Array = np.clip(np.rint(scaled), low, high).astype(self.input_type.storage)
        return quantized

    def table(self) -> Array:
        """(channels, 256) lookup from an 8-bit sample to the integer input, equal to the float path."""
        if not self._table:
            samples = np.repeat(np.arange(256, dtype=np.uint8)[:, None], len(self.mean), axis=1)
            self._table.append(np.ascontiguousarray(self.quantize(self.normalise(samples)).T))
        return self._table[0]
