"""From a histogram to the range of an activation; from weights to a range per output channel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from nybble.graph.types import Array, DType
from nybble.quantize.calibrate.observers import HistogramObserver
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import CalibrationConfig, RangeMethod, WeightRangeMethod

#: Clips that MSE tries, as shares of the largest value.
_CLIPS = 256
#: Bins that the entropy method uses; finer ones would hold too few values to form a distribution.
_ENTROPY_BINS = 2048
#: Clips a weight channel tries, from this share of its largest magnitude to all of it.
_WEIGHT_CLIPS, _SMALLEST_WEIGHT_CLIP = 81, 0.2
#: Number of ranges wider than the largest magnitude to try: these map it to one of the codes below the highest.
_WIDER = 7


def activation_range(observer: HistogramObserver, dtype: DType, config: CalibrationConfig) -> float:
    """The largest value to represent: ``scale = range / dtype.maximum``.

    Parameters
    ----------
    observer : HistogramObserver
    dtype : DType
        The integer type that the tensor will have.
    config : CalibrationConfig
        ``method`` names one: :func:`percentile_range`, :func:`minmax_range`, :func:`mse_range` or
        :func:`entropy_range`.

    Raises
    ------
    QuantizeError
        If no values were observed. A tensor of zeros gets the range 1, which is as good as any other.
    """
    if observer.total == 0:
        raise QuantizeError(f"{observer.name}: nothing was observed; is this part of the network reached?")
    if observer.magnitude == 0:
        return 1.0
    return METHODS[config.method](observer, dtype, config)


def minmax_range(observer: HistogramObserver) -> float:
    """The largest magnitude seen; of an unsigned tensor the largest value."""
    return observer.magnitude


def percentile_range(observer: HistogramObserver, percentile: float) -> float:
    """The magnitude that ``percentile`` per cent of all values, including zeros, do not exceed.

    Interpolated linearly within a bin, so it differs from the exact quantile by less than ``observer.width``; at most
    the largest magnitude. If the quantile is zero because most values are, the range ends with the smallest bin that
    contains a value, since a range of zero cannot be represented.
    """
    counts = observer.magnitudes()
    below = observer.zeros + observer.negatives
    wanted = percentile / 100 * observer.total
    sums = below + np.cumsum(counts)
    index = int(np.searchsorted(sums, wanted, side="left"))
    if wanted <= below:
        index, share = int(np.flatnonzero(counts)[0]), 1.0
    else:
        index = min(index, len(counts) - 1)
        before = float(sums[index] - counts[index])
        share = min(1.0, (wanted - before) / float(counts[index])) if counts[index] else 1.0
    return min((index + share) * observer.width, observer.magnitude)


def mse_range(observer: HistogramObserver, dtype: DType) -> float:
    """The clip with the least mean squared error of rounding and clipping, out of 256 shares of the largest value.

    Values count as their bin's centre; zeros are exact under any clip, and negative values of an unsigned type are
    lost under any. (The criterion is that of Sung et al. 2015 and Banner et al. 2019, minimised over the histogram
    rather than over a fitted distribution.)
    """
    kept = np.flatnonzero(observer.counts)
    edges = observer.edges()
    centres = (edges[kept] + edges[kept + 1]) / 2
    counts = observer.counts[kept].astype(np.float64)
    clips = observer.magnitude * np.arange(1, _CLIPS + 1) / _CLIPS
    errors = np.empty(_CLIPS)
    for place, clip in enumerate(clips):
        step = clip / dtype.maximum
        levels = np.clip(np.rint(centres / step), dtype.minimum, dtype.maximum)
        errors[place] = counts @ (centres - levels * step) ** 2
    return float(clips[int(np.argmin(errors))])


def entropy_range(observer: HistogramObserver, dtype: DType) -> float:
    """The clip whose quantized distribution is nearest in Kullback-Leibler divergence (Migacz 2017).

    Magnitudes in 2,048 bins at most; what lies beyond a clip is added to its last bin. Unlike the original, values are
    assigned to levels as the integer network rounds, exact zeros take no part (they are represented exactly), and a
    level's mass is spread over those of its bins that hold values.
    """
    counts = _coarse(observer.magnitudes())
    width = observer.width * (len(observer.magnitudes()) // len(counts))
    last = int(np.flatnonzero(counts)[-1]) + 1
    if last <= dtype.maximum:  # With fewer bins than levels nothing is lost.
        return observer.magnitude
    best, best_divergence = last, np.inf
    stride = max(1, (last - dtype.maximum) // _CLIPS)
    for clip in range(last, dtype.maximum, -stride):
        reference = counts[:clip].astype(np.float64)
        held = reference > 0
        reference[-1] += counts[clip:].sum()
        if not held.any():
            continue
        levels = np.floor((np.arange(clip) + 0.5) / clip * dtype.maximum + 0.5).astype(np.int64)
        mass = np.bincount(levels, weights=counts[:clip])
        spread = np.bincount(levels, weights=held)
        candidate = np.where(held, mass[levels] / np.maximum(spread[levels], 1), 0)
        divergence = _divergence(reference, candidate)
        if divergence < best_divergence:
            best, best_divergence = clip, divergence
    return min(best * width, observer.magnitude)


def _coarse(counts: Array) -> Array:
    merged = max(1, len(counts) // _ENTROPY_BINS)
    coarse: Array = counts.reshape(-1, merged).sum(axis=1)
    return coarse


def _divergence(reference: Array, candidate: Array) -> float:
    """KL(reference || candidate) of unnormalised masses, smoothed where the candidate has none."""
    p = reference / reference.sum()
    q = np.maximum(candidate / candidate.sum(), 1e-12)
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / q[used])))


#: Functions by the name in a configuration: from the observer of a tensor, and its type, to its range.
METHODS: dict[RangeMethod, Callable[[HistogramObserver, DType, CalibrationConfig], float]] = {
    "percentile": lambda observer, _, config: percentile_range(observer, config.percentile),
    "minmax": lambda observer, *_: minmax_range(observer),
    "mse": lambda observer, dtype, _: mse_range(observer, dtype),
    "entropy": lambda observer, dtype, _: entropy_range(observer, dtype),
}


@torch.no_grad()
def weight_range(weight: Tensor, bits: int, method: WeightRangeMethod = "max") -> Tensor:
    """Largest magnitude to represent for each output channel, symmetric.

    Parameters
    ----------
    weight : Tensor
        Float (K, ...), output channels first.
    bits : int
        The integers are ``-(2 ** (bits - 1) - 1) .. 2 ** (bits - 1) - 1``.
    method : {"max", "mse"}
        The channel's largest magnitude, or the share of it (0.20, 0.21, ..., 1) with the least squared error. Wider
        ranges are tried as well in which the largest weight is a whole number of steps: for weights that were
        quantized before, with a step that left codes unused, one of them finds that step again.

    Returns
    -------
    Tensor
        float32 (K,); 0 for a channel of zeros (``WeightQuantizer.set_range`` gives it a floor).

    Raises
    ------
    QuantizeError
        If a weight is NaN or infinite.
    """
    rows = weight.detach().reshape(weight.shape[0], -1).float()
    largest = rows.abs().amax(dim=1)
    if not bool(torch.isfinite(largest).all()):
        channel = int((~torch.isfinite(largest)).nonzero()[0])
        raise QuantizeError(f"output channel {channel} has a weight that is NaN or infinite")
    ranges = largest.clone()
    if method == "mse":
        limit = 2 ** (bits - 1) - 1
        least = torch.full_like(largest, torch.inf)
        wider = [limit / code for code in range(limit - 1, max(0, limit - _WIDER), -1)]
        for share in torch.linspace(1.0, _SMALLEST_WEIGHT_CLIP, _WEIGHT_CLIPS).tolist() + wider:
            step = (largest * share / limit).clamp_min(torch.finfo(torch.float32).tiny)[:, None]
            error = ((rows / step).round().clamp(-limit, limit) * step - rows).square().sum(dim=1)
            better = error < least
            least = torch.where(better, error, least)
            ranges = torch.where(better, largest * share, ranges)
    return ranges
