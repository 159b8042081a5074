"""From a photo to the 8-bit crop and the integers that a network reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from nybble.graph import Preprocessing
from nybble.graph.types import Array
from nybble.images.errors import ImageError
from nybble.images.fit import MAX_PIXELS, Fit

# Pillow is imported when a photo is decoded: an engine that only reads arrays saves the time and 5 MB.
if TYPE_CHECKING:
    from PIL import Image

#: A photo: a file, its bytes, a Pillow image, or uint8 samples of shape (H, W, 3) or (H, W).
PhotoSource: TypeAlias = "str | Path | bytes | Image.Image | Array"

_ORIENTATION = 0x0112
#: The transposition that undoes each orientation.
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def load_photo(source: PhotoSource, preprocessing: Preprocessing, *, exif: bool = True) -> Array:
    """Decode a photo, turn it upright, bring it to the size of the input.

    If the short side is resized and the centre is cropped, sizes and offsets are rounded as in torchvision's ``Resize``
    and ``CenterCrop``, and Pillow resizes. The result then equals theirs in every sample.

    Grayscale and CMYK become RGB; transparent photos are laid on white; 16-bit grayscale keeps its upper 8 bits,
    rounded. Of an animation the first frame counts.

    Parameters
    ----------
    source : str, Path, bytes, PIL.Image.Image or ndarray
        A file, its content, or samples: uint8 of shape (H, W, 3) in RGB order, or (H, W).
    preprocessing : Preprocessing
    exif : bool
        Whether the photo is turned upright as its EXIF orientation says. torchvision does not, and published accuracies
        depend on that, so ``False`` is the default of commands that measure accuracy. (Pillow itself turns TIFF files
        in either case.)

    Returns
    -------
    ndarray
        uint8 (crop rows, crop columns, channels): in the channel order of the preprocessing, or gray for a network of
        one channel.

    Raises
    ------
    ImageError
        If the file is missing, truncated, no image or too large, or is not of the size that the network takes where
        photos are not resized.
    """
    path = Path(source) if isinstance(source, str | Path) else None
    return fit_photo(decode_photo(source, exif=exif), preprocessing, path)[0]


def fit_photo(photo: Image.Image, preprocessing: Preprocessing, path: Path | None = None) -> tuple[Array, Fit]:
    """Bring a decoded photo to the size of the input.

    Parameters
    ----------
    photo : PIL.Image.Image
        In mode RGB, as :func:`decode_photo` gives it.
    preprocessing : Preprocessing
    path : Path, optional
        What errors name.

    Returns
    -------
    samples : ndarray
        As of :func:`load_photo`.
    fit : Fit
        Where the photo lies in them.

    Raises
    ------
    ImageError
        As :func:`load_photo`.
    """
    # A network of one channel reads grayscale, whose weights of the colours are Pillow's (ITU-R 601).
    photo = photo if len(preprocessing.mean) == 3 else photo.convert("L")
    fit = Fit.of(photo.width, photo.height, preprocessing, path)
    samples = fit.apply(photo, preprocessing)
    return (np.ascontiguousarray(samples[..., ::-1]) if preprocessing.channel_order == "BGR" else samples), fit


def decode_photo(source: PhotoSource, *, exif: bool = True) -> Image.Image:
    """Decode a photo to a Pillow image in mode RGB, of its own size; the rest as :func:`load_photo` has it."""
    return _decoded(source, Path(source) if isinstance(source, str | Path) else None, exif)


def integer_input(photos: Array, preprocessing: Preprocessing) -> Array:
    """The network's integer input (N, C, H, W) of uint8 photos (N, H, W, C), by table: see ``Preprocessing``."""
    table = preprocessing.table()
    return np.stack([samples[photos[..., channel]] for channel, samples in enumerate(table)], axis=1)


def _decoded(source: PhotoSource, path: Path | None, exif: bool) -> Image.Image:
    """The photo in mode RGB."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)):
            raise ImageError(
                None, f"samples must be uint8 of shape (H, W, 3) or (H, W), got {source.dtype} of shape {source.shape}"
            )
        if not source.size:
            raise ImageError(None, f"has no pixels: shape {source.shape}")
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, Image.Image):
        return _read(source, path, exif)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return _read(image, path, exif)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(path, "is not an image that Pillow can read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(path, f"has more than {MAX_PIXELS} pixels") from error
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # As in _read.
        raise ImageError(path, f"cannot be decoded: {error}") from error


def _read(image: Image.Image, path: Path | None, exif: bool) -> Image.Image:
    if not image.width or not image.height:
        raise ImageError(path, f"has no pixels: {image.width}x{image.height}")
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(path, f"has {image.width}x{image.height} pixels, more than {MAX_PIXELS}")
    if image.mode == "F":
        raise ImageError(path, "has float samples, which have no agreed range")
    try:
        return _upright(image, _as_rgb(image)) if exif else _as_rgb(image)
    except Exception as error:  # Pillow's decoders pass on any exception that a damaged file causes.
        raise ImageError(path, f"cannot be decoded: {error}") from error


def _upright(original: Image.Image, photo: Image.Image) -> Image.Image:
    """``photo``, converted from ``original``, turned as the EXIF orientation of ``original`` says."""
    from PIL import Image

    # The result must not carry the orientation that has been applied.
    photo.info = {}
    try:
        orientation = original.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF readers raise many kinds of exceptions on damaged data; the photo itself is fine.
        return photo
    how = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return photo if how is None else photo.transpose(Image.Transpose[how])


def _as_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):
        # 16-bit grayscale; some Pillow versions widen it to "I". Pillow's own conversion would cut off at 255.
        samples = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((samples * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        photo = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    return image.convert("RGB")
