"""Photos of networks that are not classifiers: channel order, letterbox, parts of a size, noise."""

from __future__ import annotations

import numpy as np
import pytest

from nybble.graph import Preprocessing
from nybble.images import load_photo
from nybble.quantize.data import Loader, MemoryPhotos, Subset
from nybble.quantize.errors import QuantizeError
from nybble.quantize.settings import AugmentationConfig

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
RED = np.zeros((20, 40, 3), np.uint8)
RED[..., 0] = 255


def first(preprocessing: Preprocessing, augmentation: AugmentationConfig | None, epoch: int = 0, noise: float = 0.0):  # type: ignore[no-untyped-def]
    photos = MemoryPhotos([RED])
    photos.noise = noise
    loader = Loader(Subset(photos, [0]), preprocessing, batch=1, augmentation=augmentation)
    return next(iter(loader.load([[0]], epoch))).images[0].numpy()


@pytest.mark.parametrize("crop", ["resized", "pad", "centre"])
@pytest.mark.parametrize("fit", ["crop", "stretch", "letterbox", "none"])
def test_channels_are_in_the_networks_order(fit: str, crop: str) -> None:
    preprocessing = Preprocessing(resize=16, crop=(16, 16), fit=fit, channel_order="BGR", **PLAIN)  # type: ignore[arg-type]
    augmentation = AugmentationConfig(crop=crop, padding=0)  # type: ignore[arg-type]
    image = first(preprocessing, augmentation)
    assert image.shape == (3, 16, 16)
    inside = image[2] == 1
    assert inside.any() and not image[0][inside].any()
    if fit != "letterbox":
        assert inside.all()
    elif crop == "centre":
        expected = load_photo(RED, preprocessing).transpose(2, 0, 1) / np.float32(255)
        flipped = [np.array_equal(image, way) for way in (expected, expected[..., ::-1])]
        assert any(flipped)


def test_parts_have_the_inputs_size_or_are_refused() -> None:
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (20, 40, 3), np.uint8)
    preprocessing = Preprocessing(crop=(8, 10), fit="none", **PLAIN)  # type: ignore[arg-type]
    photos = MemoryPhotos([photo])
    (batch,) = Loader(photos, preprocessing, batch=1).in_order()
    expected = photo[6:14, 15:25].transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(batch.images[0].numpy(), expected)
    loader = Loader(photos, Preprocessing(crop=(30, 10), fit="none", **PLAIN), batch=1)  # type: ignore[arg-type]
    with pytest.raises(QuantizeError, match="40x20 pixels, fewer than the 10x30 of the input"):
        list(loader.in_order())


def test_noise_follows_from_the_epoch_and_is_not_clipped() -> None:
    preprocessing = Preprocessing(crop=(20, 40), fit="none", mean=(0.0,) * 3, std=(0.5,) * 3)
    clean = first(preprocessing, None)
    noisy = [first(preprocessing, None, epoch, 25.0) - clean for epoch in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert not np.array_equal(noisy[0], noisy[2])
    assert np.std(noisy[0]) == pytest.approx(25 / 255 / 0.5, rel=0.05)
    assert (noisy[0] + clean).min() < 0
    silent, loud = MemoryPhotos([RED]), MemoryPhotos([RED])
    loud.noise = 25.0
    assert silent.fingerprint != loud.fingerprint
