"""The records of an import about ONNX values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nybble.graph.nodes import Padding
from nybble.graph.types import Array, DType

#: Scales that differ by less than this part are the same: a few roundings of float32.
SAME = 2.0**-20


@dataclass(frozen=True)
class Constant:
    """A constant, as real values; where it was dequantized, the integers and their scale too.

    Attributes
    ----------
    real : array
        The values, in the dtype of the file.
    kind : int
        The ONNX element type, 0 where it is not known.
    integers : array or None
        int64, of the shape of ``real``; zero points are taken away.
    dtype : DType or None
        The type that the integers are held in.
    scale : array or None
        float64, broadcasts to the shape of ``real`` and has its rank.
    bounds : tuple of two ints or None
        The bounds of a Clip of raw integers.
    is_symbolic : bool
        Whether a 0 in it stands for the size of the batch: it comes from the Shape of an activation.
    """

    real: Array
    kind: int = 0
    integers: Array | None = None
    dtype: DType | None = None
    scale: Array | None = None
    bounds: tuple[int, int] | None = None
    is_symbolic: bool = False


@dataclass(frozen=True)
class Outside:
    """A float input that is not quantized yet; ``layout`` as in :class:`Real`."""

    name: str
    shape: tuple[int, ...]
    layout: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Stored:
    """An activation of the graph as integers; ONNX's are larger by ``zero``."""

    value: str
    zero: int = 0
    flat: bool = False
    padding: Padding | None = None
    filling: float = 0.0
    layout: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Real:
    """A value of the graph as real numbers (``unit`` per step), and the effects of ONNX nodes on it since.

    Attributes
    ----------
    value : str
        The graph's value: an activation, or a sum where ``is_sum``.
    unit : array
        float64 (channels), above 0.
    relu : str or None
        Name of the node that cuts off below 0.
    high, low : array or None
        Real bounds (channels) that it is clipped to.
    clip : str or None
        Name of the node that does.
    through : str or None
        Name of a Mul or Identity that it went through: what a Quantize into a sum is called.
    flat : bool
        Whether (C, H, W) is read as one dimension.
    padding : Padding or None
        What a Pad has put around images, filled with ``filling``.
    layout : tuple of three ints or None
        The order in which ONNX has the dimensions (C, H, W), where a Transpose has changed it.
    """

    value: str
    unit: Array
    is_sum: bool
    relu: str | None = None
    high: Array | None = None
    low: Array | None = None
    clip: str | None = None
    through: str | None = None
    flat: bool = False
    padding: Padding | None = None
    filling: float = 0.0
    layout: tuple[int, int, int] | None = None

    @property
    def is_stored(self) -> bool:
        """Whether it is an activation as it is stored."""
        return not self.is_sum and not self.is_cut

    @property
    def is_uniform(self) -> bool:
        """Whether a step stands for the same in all channels."""
        return bool(np.all(self.unit == self.unit[0]))

    @property
    def is_cut(self) -> bool:
        """Whether a ReLU or a clip is pending."""
        return self.relu is not None or self.high is not None or self.low is not None


@dataclass(frozen=True)
class Computed:
    """A function of one activation that is not quantized yet.

    Attributes
    ----------
    root : Real
        The activation, as it is stored.
    name : str
        Of the ONNX node that computes it.
    numbers : array
        float32 or integers, (codes of the activation's type): the value for each code.
    """

    root: Real
    name: str
    numbers: Array


Value = Constant | Outside | Stored | Real | Computed


@dataclass(frozen=True)
class Quantizer:
    """A QuantizeLinear: its scales, as the file has them, the type that it makes, and what is added before it."""

    scales: Array
    dtype: DType
    added: float = 0.0

    def scale(self, real: Real) -> Array | None:
        """One scale per channel of a value; ``None`` if the scales have another form."""
        scales = self.scales.reshape(-1)
        if scales.size == 1 or np.all(scales == scales[0]):
            return np.full(real.unit.shape, float(scales[0]))
        return scales if scales.shape == real.unit.shape else None


def are_same(left: Array, right: Array | float) -> bool:
    """Whether scales agree, up to the rounding of float32."""
    return bool(np.all(np.abs(left - right) <= SAME * np.abs(right)))


def dims_of(seen: Stored | Real | Outside, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of one image as ONNX has them, of a graph's value of that shape."""
    if len(shape) == 1 or (not isinstance(seen, Outside) and seen.flat):
        return (int(np.prod(shape)),)
    return tuple(shape[axis] for axis in seen.layout or (0, 1, 2))


def channel_axis(seen: Stored | Real, shape: tuple[int, ...]) -> int | None:
    """The ONNX axis of the channels, batch included; ``None`` where they are mixed with rows and columns."""
    if len(shape) == 1:
        return 1
    if seen.flat:
        return 1 if shape[1:] == (1, 1) else None
    return 1 + (seen.layout or (0, 1, 2)).index(0)
