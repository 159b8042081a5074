"""Photos as callers give them: one or many, of any library, without importing that library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from nybble.graph.types import Array
from nybble.images.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

    from nybble.images.photo import PhotoSource


class TensorLike(Protocol):
    """A tensor of PyTorch."""

    def detach(self) -> Any:
        """The values without their gradient history."""
        ...


#: One photo, as users give it.
Photo: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image"
#: One photo, or a batch of them where it has a further axis.
Samples: TypeAlias = "Array | TensorLike"


def is_one(photos: object) -> bool:
    """Whether this is a single photo: a path, bytes, a Pillow image, or an array or tensor of two or three axes."""
    if isinstance(photos, str | bytes | os.PathLike) or _is_image(photos):
        return True
    return (isinstance(photos, np.ndarray) or _is_tensor(photos)) and photos.ndim < 4  # type: ignore[attr-defined]


def each(photos: Any) -> Iterator[PhotoSource]:
    """The photos of an iterable, one by one, or the only one, in a form that :func:`nybble.images.load_photo` takes.

    Parameters
    ----------
    photos : photo, array, tensor or iterable
        Tensors of PyTorch are uint8 or float from 0 to 1, of shape (3, H, W), (1, H, W) or (H, W), on any device; a
        further axis in front of an array or tensor counts photos.

    Raises
    ------
    ImageError
        On a tensor of another shape or dtype, or of values that are not from 0 to 1.
    TypeError
        On what is neither a photo nor an iterable of photos.
    """
    if is_one(photos):
        yield plain(photos)
    elif isinstance(photos, Iterable):
        for photo in photos:
            if not is_one(photo) and not isinstance(photo, np.ndarray):
                raise TypeError(_unexpected(photo))
            yield plain(photo)
    else:
        raise TypeError(_unexpected(photos))


def chunks(photos: Any, size: int) -> Iterator[list[PhotoSource]]:
    """The photos of :func:`each` in groups of ``count``; no more photos of a generator are in memory."""
    remaining = each(photos)
    while some := list(islice(remaining, size)):
        yield some


def plain(photo: Any) -> PhotoSource:
    """A single photo as a path, bytes, a Pillow image or an array."""
    if _is_tensor(photo):
        return _samples(photo)
    if isinstance(photo, os.PathLike) and not isinstance(photo, Path):
        return Path(photo)
    source: PhotoSource = photo
    return source


def _samples(tensor: Any) -> Array:
    """uint8 (H, W, 3) or (H, W) of a tensor with channels first."""
    values = tensor.detach().cpu()
    if values.dtype.is_floating_point:
        values = values.float().numpy()
        if not np.all((values >= 0) & (values <= 1)):
            raise ImageError(None, "a float tensor must have values from 0 to 1; call the engine for normalised ones")
        values = np.rint(values * 255).astype(np.uint8)
    else:
        values = values.numpy()
    if values.dtype != np.uint8 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[0] in (1, 3))):
        raise ImageError(
            None,
            f"a tensor must be uint8, or float from 0 to 1, of shape (3, H, W), (1, H, W) or (H, W), got "
            f"{values.dtype} of shape {tuple(values.shape)}",
        )
    if values.ndim == 2 or values.shape[0] == 1:
        return np.ascontiguousarray(values.reshape(values.shape[-2:]))
    return np.ascontiguousarray(values.transpose(1, 2, 0))


def _is_tensor(value: object) -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(value, getattr(torch, "Tensor", ()))


def _is_image(value: object) -> bool:
    module: Any = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _unexpected(value: object) -> str:
    return (
        "expected a photo (path, bytes, Pillow image, array or tensor) or an iterable of photos, got "
        f"{type(value).__name__}"
    )
