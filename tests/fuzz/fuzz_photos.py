"""Photos: encoded images of every kind that Pillow decodes here."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from fuzz_target import Bytes, Target
from PIL import Image

from nybble.graph import Preprocessing
from nybble.images import ImageError, load_photo

#: Each brings a photo to 8x8 in its own way.
PREPROCESSINGS = (
    Preprocessing(resize=12, crop=(8, 8)),
    Preprocessing(resize=8, crop=(8, 8), fit="stretch", channel_order="BGR"),
    Preprocessing(resize=8, crop=(8, 8), fit="letterbox", fill=114, placement="centre"),
)


class Photos(Target):
    """An encoded photo; its first two bytes choose the preprocessing and whether it is turned upright."""

    name = "photo"

    def seeds(self) -> Mapping[str, bytes]:
        pixels = np.random.default_rng(1).integers(0, 256, (11, 13, 4), dtype=np.uint8)
        found = {}
        for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "PCX"):
            for mode in ("RGB", "RGBA", "L", "P", "1", "I;16", "CMYK"):
                sink = io.BytesIO()
                try:
                    picture = Image.fromarray(pixels[..., :3])
                    if mode == "I;16":
                        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
                    elif mode == "RGBA":
                        picture = Image.fromarray(pixels)
                    else:
                        picture = picture.convert(mode)
                    exif = Image.Exif()
                    exif[0x0112] = 6
                    picture.save(sink, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}))
                except (OSError, ValueError, KeyError):  # This kind has no such mode.
                    continue
                found[f"{kind}-{mode.replace(';', '')}".lower()] = b"\x00\x00" + sink.getvalue()
        return found

    def run(self, data: bytes) -> None:
        source = Bytes(data)
        exif, preprocessing = source.pick((True, False)), source.pick(PREPROCESSINGS)
        try:
            photo = load_photo(source.rest(), preprocessing, exif=exif)
        except ImageError as error:
            assert "\n" not in str(error), error
            return
        assert photo.dtype == np.uint8 and photo.shape == (8, 8, 3)
