"""Ranges from fresh histograms between epochs, as the published recipe re-adjusts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nybble.progress import Progress
from nybble.quantize.calibrate.calibration import observing, set_activation_ranges, set_weight_ranges
from nybble.quantize.calibrate.observers import HistogramObserver
from nybble.quantize.data import Loader
from nybble.quantize.settings import CalibrationConfig, TrainingConfig
from nybble.quantize.train.processes import Processes

if TYPE_CHECKING:
    from nybble.quantize.fake.network import QuantizedNetwork

#: Tells the order of these photos from that of the training step's.
_STREAM = 1


def adjust_ranges(
    network: QuantizedNetwork,
    loader: Loader,
    config: TrainingConfig,
    calibration: CalibrationConfig,
    epoch: int,
    processes: Processes,
    progress: Progress,
) -> None:
    """Set all ranges anew: weights' from the weights, activations' from histograms of the quantized network.

    Parameters
    ----------
    network : QuantizedNetwork
    loader : Loader
        Training photos as evaluation sees them.
    config : TrainingConfig
        ``range_batches`` batches for each process are drawn under ``seed`` and ``epoch``.
    calibration : CalibrationConfig
        How a range follows from a histogram.
    epoch : int
    processes : Processes
        All get the same ranges: their histograms are merged, which is exact.
    progress : callable
    """
    order = np.random.default_rng((config.seed, epoch, _STREAM)).permutation(len(loader.photos)).tolist()
    groups = [order[first : first + loader.batch] for first in range(0, len(order), loader.batch)]
    groups = groups[: config.range_batches * processes.count]
    observers = {
        name: HistogramObserver(name, signed=quantizer.dtype.is_signed, bins=calibration.bins)
        for name, quantizer in network.activation_quantizers().items()
    }
    set_weight_ranges(network, calibration)
    network.set_mode("quantize")
    images = 0
    with observing(network, observers), torch.inference_mode():
        for place, batch in enumerate(loader.load(groups[processes.rank :: processes.count])):
            network(batch.images.to(processes.device))
            images += len(batch.images)
            progress("adjusting ranges", place + 1, len(groups))
    progress("adjusting ranges", len(groups), len(groups))
    processes.merge(observers)
    set_activation_ranges(network, observers, calibration, images, 0.0)
