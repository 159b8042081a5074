"""Fine-tune a prepared network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from nybble.progress import Progress, silent
from nybble.quantize.data import PhotoReport, Photos, open_photos
from nybble.quantize.errors import QuantizeError
from nybble.quantize.fake.fused import fused
from nybble.quantize.settings import TrainingConfig
from nybble.quantize.train.interrupt import stop_on_signal
from nybble.quantize.train.metrics import Row
from nybble.quantize.train.processes import joined
from nybble.quantize.train.run import Run

if TYPE_CHECKING:
    from nybble.quantize.fake.network import QuantizedNetwork


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of :func:`finetune`.

    Attributes
    ----------
    epochs : tuple of dict
        Figures of each epoch; the columns of ``metrics.csv``.
    best_epoch : int
        Counted from 1, the one whose weights the network has; 0 where there were none.
    report : PhotoReport
        Training photos that this process read.
    """

    epochs: tuple[Row, ...]
    best_epoch: int
    report: PhotoReport


def finetune(
    network: QuantizedNetwork,
    train: Photos | str | Path,
    val: Photos | str | Path | None,
    config: TrainingConfig | None = None,
    *,
    teacher: nn.Module | None = None,
    work: str | Path,
    resume: bool = True,
    progress: Progress = silent,
    device: str | torch.device | None = None,
) -> TrainingResult:
    """Train a calibrated network with its quantizers in place; it ends with the best epoch's weights.

    With straight-through estimation (method ``ste``) ranges are re-adjusted from fresh histograms before each epoch;
    learned steps (``lsq``, Esser et al. 2020) are trained with the weights. The learning rate follows a cosine after
    a linear warm-up. Under ``torchrun`` each process takes its share of every step's photos.

    Parameters
    ----------
    network : QuantizedNetwork
        Calibrated, with its preprocessing. Trained in place.
    train, val : Photos, str or Path
        Labelled photos, or where they lie (:func:`nybble.quantize.data.open_photos`); ``distillation=1`` needs no
        labels. The best epoch is that with the highest top-1 on ``val`` (of equal ones the first); without ``val``, or
        without labels, it is the last.
    config : TrainingConfig, optional
        By default the network's own.
    teacher : nn.Module, optional
        Float network for ``config.distillation``; reads the same images. For ``config.features`` it has to be a copy
        of the network in mode ``float``.
    work : str or Path
        Folder for ``last.pt``, ``best.pt``, ``metrics.csv``, ``curves.png`` and ``tensorboard/``. All files are
        replaced whole.
    resume : bool
        Whether to continue from ``last.pt``. A run that was killed and resumed ends with the weights of an
        uninterrupted one, bit for bit if the arithmetic is deterministic (one thread, or deterministic GPU kernels).
    progress : callable
        Called in the first process only.
    device : str or torch.device, optional
        By default a GPU where there is one.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TrainingInterrupted
        After SIGTERM or SIGINT, once a checkpoint was written at the step's end.
    QuantizeError
        If labels, photos, settings or the work folder are not valid, or the loss is not finite.
    """
    photos = train if isinstance(train, Photos) else open_photos(train)
    held_out = val if val is None or isinstance(val, Photos) else open_photos(val)
    config = config if config is not None else network.config.training
    for name in ("distillation", "features"):
        if getattr(config, name) and teacher is None:
            raise QuantizeError(f"{name}={getattr(config, name)} needs a teacher")
    folder = Path(work)
    with joined(device) as processes, stop_on_signal() as stop, fused(config.compile):
        run = Run(
            network, photos, held_out, config, teacher, folder, processes, progress if processes.is_first else silent
        )
        if not (resume and run.restore()):
            run.begin()
        run.train(stop)
        run.load_best()
    return TrainingResult(tuple(run.rows), run.at.best_epoch + 1, run.loader.report)
