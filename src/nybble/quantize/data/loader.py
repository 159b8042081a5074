"""Batches of float tensors, the same for any number of workers, from any position on."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.quantize.data.augment import generator
from nybble.quantize.data.condition import PhotoReport
from nybble.quantize.data.decode import Decoded, augmented, evaluated
from nybble.quantize.data.photos import Photos, Subset
from nybble.quantize.data.source import open_photos
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import AugmentationConfig, CalibrationConfig

#: Photos to try in place of one that cannot be used before a training run fails.
_REPLACEMENTS = 1000
_NO_LABEL = -1
#: Apart from the seed of augmentation, so that noise does not follow from where a photo is cut.
_NOISE = 1 << 32


class Batch(NamedTuple):
    """Images float32 (N, C, H, W) in channels-last memory, labels int64 (N,) (-1: none), numbers of the photos (N,)."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class _Examples(Dataset[list[Decoded]]):
    """Photos by (epoch, number): the list ends with the one to use; those before it could not be used."""

    def __init__(
        self, photos: Photos, preprocessing: Preprocessing, augmentation: AugmentationConfig | None, seed: int
    ) -> None:
        self.photos, self.preprocessing, self.augmentation, self.seed = photos, preprocessing, augmentation, seed

    def __getitem__(self, key: tuple[int, int]) -> list[Decoded]:
        epoch, index = key
        if self.augmentation is None:
            return [evaluated(self.photos, index, self.preprocessing)]
        tried: list[Decoded] = []
        # The next photo takes the place of one that cannot be used, so that batches keep their size.
        for offset in range(min(_REPLACEMENTS, len(self.photos))):
            candidate = (index + offset) % len(self.photos)
            tried.append(augmented(self.photos, candidate, self.preprocessing, self.augmentation, self.seed, epoch))
            if tried[-1].failure is None:
                break
        return tried


class Loader:
    """Makes batches of photos.

    Parameters
    ----------
    photos : Photos
    preprocessing : Preprocessing
    batch : int
        Photos in each; photos that cannot be used are missing from it, or, where ``augmentation`` is given, replaced
        by the next that can.
    augmentation : AugmentationConfig, optional
    seed : int
    workers : int
        Processes; 0 decodes in this one. The batches do not depend on it.

    Attributes
    ----------
    report : PhotoReport
        Photos so far.
    """

    def __init__(
        self,
        photos: Photos,
        preprocessing: Preprocessing,
        *,
        batch: int,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        self.photos = photos
        self.preprocessing = preprocessing
        self.batch = batch
        self.augmentation = augmentation
        self.seed = seed
        self.workers = workers
        self.report = PhotoReport()
        samples = np.repeat(np.arange(256, dtype=np.uint8)[:, None], len(preprocessing.mean), axis=1)
        #: (256, channels): what the engine's preprocessing makes of each 8-bit sample, to the last bit.
        self._table = preprocessing.normalise(samples)

    def load(self, groups: Sequence[Sequence[int]], epoch: int = 0) -> Iterator[Batch]:
        """Batches of the photos with these numbers; a group of which no photo can be used is left out.

        Raises
        ------
        QuantizeError
            Once it is certain that not one photo can be used.
        """
        loader = DataLoader(
            _Examples(self.photos, self.preprocessing, self.augmentation, self.seed),
            batch_sampler=[[(epoch, index) for index in group] for group in groups],
            num_workers=min(self.workers, len(groups)),
            collate_fn=_flattened,
            worker_init_fn=_in_worker,
            # Otherwise it would draw its workers' seeds, which nothing here uses, from the network's own generator.
            generator=torch.Generator(),
        )
        for examples in loader:
            batch = self._batch(examples, epoch)
            if batch is not None:
                yield batch
        self.report.raise_if_none("photos")

    def in_order(self, start: int = 0) -> Iterator[Batch]:
        """All photos in their order, from batch number ``start`` on."""
        groups = [
            range(first, min(first + self.batch, len(self.photos))) for first in range(0, len(self.photos), self.batch)
        ]
        return self.load(groups[start:])

    def _batch(self, examples: list[Decoded], epoch: int) -> Batch | None:
        used: list[tuple[Array, int, int]] = []
        for example in examples:
            self.report.note(example.number, example.name, example.kinds, example.failure)
            if example.samples is not None:
                label = self.photos.label(example.number)
                used.append((example.samples, _NO_LABEL if label is None else label, example.number))
        if not used:
            return None
        samples, labels, indices = zip(*used, strict=True)
        images = self._normalised(np.stack(samples))
        if self.photos.noise:
            images = images + torch.stack(
                [self._noise(image.shape, epoch, index) for image, index in zip(images, indices, strict=True)]
            )
        return Batch(images, torch.tensor(labels), torch.tensor(indices))

    def _noise(self, shape: Sequence[int], epoch: int, index: int) -> Tensor:
        """Normal noise for a photo (C, H, W), in units of the normalised image; it follows from seed and epoch."""
        random = generator(self.seed + _NOISE, epoch, index)
        deviation = self.photos.noise / 255 / np.asarray(self.preprocessing.std)
        drawn = random.normal(0, 1, tuple(shape)) * deviation.reshape(-1, 1, 1)
        return torch.from_numpy(drawn.astype(np.float32))

    def _normalised(self, samples: Array) -> Tensor:
        """float32 (N, C, H, W) of uint8 (N, H, W, C)."""
        images = np.empty(samples.shape, dtype=np.float32)
        for channel in range(samples.shape[-1]):
            images[..., channel] = self._table[:, channel][samples[..., channel]]
        # A transposed view of rows of pixels is what torch calls channels-last.
        return torch.from_numpy(images).permute(0, 3, 1, 2)


def _flattened(examples: list[list[Decoded]]) -> list[Decoded]:
    return [decoded for tried in examples for decoded in tried]


def _in_worker(worker: int) -> None:
    """Ignore interrupts, since the main process handles them and ends its workers; let torch use one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class CalibrationBatches:
    """Batches for :func:`nybble.quantize.calibrate`: photos as evaluated, drawn under the seed, from any position on.

    Attributes
    ----------
    images : int
        Photos in all, those that turn out unusable included.
    fingerprint : str
        A digest of what the batches depend on.
    report : PhotoReport
    """

    def __init__(self, photos: Photos, preprocessing: Preprocessing, config: CalibrationConfig) -> None:
        random = np.random.default_rng(config.seed)
        order = random.permutation(len(photos))[: config.images].tolist()
        chosen = Subset(photos, order)
        self.images = len(chosen)
        self.fingerprint = f"{chosen.fingerprint} {config.batch} {preprocessing}"
        self._loader = Loader(chosen, preprocessing, batch=config.batch, workers=config.workers)
        self.report = self._loader.report

    def __iter__(self) -> Iterator[Batch]:
        return self.starting_at(0)

    def starting_at(self, batch: int) -> Iterator[Batch]:
        """The batches from a number on."""
        return self._loader.in_order(batch)


def batches(
    images: Photos | str | Path, preprocessing: Preprocessing, config: CalibrationConfig | None = None
) -> CalibrationBatches:
    """Batches to calibrate with, of photos or of what :func:`open_photos` finds at a path.

    Raises
    ------
    QuantizeError
        If there are none.
    """
    photos = images if isinstance(images, Photos) else open_photos(images)
    if not len(photos):
        raise QuantizeError("there are no photos to calibrate with")
    return CalibrationBatches(photos, preprocessing, config if config is not None else CalibrationConfig())
