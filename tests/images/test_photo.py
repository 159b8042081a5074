"""Decoding, resizing and cropping against written-out expectations, and every way a photo can be unusable."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nybble.graph import DType, Preprocessing
from nybble.images import ImageError, integer_input, load_photo, photo

SMALL = Preprocessing(resize=8, crop=(8, 8))


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("rows", "columns", "resize", "crop", "size", "corner"),
    [
        # (width, height) after the resize: the long side is cut off to an integer, as torchvision does.
        (375, 500, 256, (224, 224), (341, 256), (16, 58)),  # 341.33 columns; (341 - 224) / 2 = 58.5 goes to even
        (500, 375, 256, (224, 224), (256, 341), (58, 16)),
        (299, 299, 256, (224, 224), (256, 256), (16, 16)),
        (33, 32, 32, (32, 32), (32, 33), (0, 0)),  # 0.5 goes to 0
        (35, 32, 32, (32, 32), (32, 35), (2, 0)),  # 1.5 goes to 2
        (20, 30, 10, (6, 8), (15, 10), (2, 4)),
    ],
)
def test_geometry(
    rows: int, columns: int, resize: int, crop: tuple[int, int], size: tuple[int, int], corner: tuple[int, int]
) -> None:
    samples = noise(rows, columns)
    resized = np.asarray(Image.fromarray(samples).resize(size, Image.Resampling.BILINEAR))
    expected = resized[corner[0] : corner[0] + crop[0], corner[1] : corner[1] + crop[1]]
    result = load_photo(samples, Preprocessing(resize=resize, crop=crop))
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)


def test_filter_is_the_named_one() -> None:
    samples = noise(20, 20)
    for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        filtered = Image.fromarray(samples).resize((8, 8), Image.Resampling[name.upper()])
        result = load_photo(samples, Preprocessing(resize=8, crop=(8, 8), interpolation=name))
        np.testing.assert_array_equal(result, np.asarray(filtered))


def test_networks_of_one_channel_read_gray() -> None:
    samples = noise(8, 8)
    preprocessing = Preprocessing(resize=8, crop=(6, 8), mean=(0.5,), std=(0.5,))
    result = load_photo(samples, preprocessing)
    np.testing.assert_array_equal(result[..., 0], np.asarray(Image.fromarray(samples).convert("L"))[1:7])
    assert integer_input(result[None], preprocessing).shape == (1, 1, 6, 8)


def test_all_sources_agree(tmp_path: Path) -> None:
    samples = noise(8, 8)
    file = tmp_path / "a photo.png"
    file.write_bytes(encoded(Image.fromarray(samples)))
    for source in (samples, Image.fromarray(samples), file, str(file), file.read_bytes()):
        np.testing.assert_array_equal(load_photo(source, SMALL), samples)


def test_other_modes_become_rgb() -> None:
    gray = noise(8, 8)[..., 0]
    as_rgb = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_photo(gray, SMALL), as_rgb)
    np.testing.assert_array_equal(load_photo(encoded(Image.fromarray(gray)), SMALL), as_rgb)
    # 16 bits: 257 * v is what v is in 8 bits.
    np.testing.assert_array_equal(load_photo(encoded(Image.fromarray(gray.astype(np.uint16) * 257)), SMALL), as_rgb)
    wide = Image.fromarray(gray.astype(np.int32) * 257)
    np.testing.assert_array_equal(load_photo(wide, SMALL), as_rgb)
    black = Image.fromarray(gray > 127)
    np.testing.assert_array_equal(load_photo(encoded(black), SMALL)[..., 1], np.where(gray > 127, 255, 0))
    palette = Image.fromarray(as_rgb).quantize(16)
    np.testing.assert_array_equal(load_photo(encoded(palette), SMALL), np.asarray(palette.convert("RGB")))
    cmyk = encoded(Image.fromarray(as_rgb).convert("CMYK"), "JPEG", quality=100)
    assert np.abs(load_photo(cmyk, SMALL).astype(int) - as_rgb).max() < 40


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    image.paste((100, 100, 100, 255), (0, 0, 8, 4))
    result = load_photo(encoded(image.convert(mode)), SMALL)
    assert (result[:4] == 100).all()
    assert (result[4:] == 255).all()


#: How Pillow makes, of an upright photo, the one that a camera stores with each orientation.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(orientation: int) -> tuple[Image.Image, Image.Image, Image.Exif]:
    """An upright photo, as a camera stores it, and the EXIF data that say so."""
    # Four plain quarters, which JPEG keeps apart.
    corners = np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]]], np.uint8)
    upright = Image.fromarray(corners.repeat(16, axis=0).repeat(24, axis=1))
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return upright, upright if turn is None else upright.transpose(turn), exif


def quarters(samples: np.ndarray) -> np.ndarray:
    return samples[4::24, 4::24].astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation(orientation: int, kind: str, tmp_path: Path) -> None:
    upright, turned, exif = stored(orientation)
    how = Preprocessing(resize=32, crop=(32, 32))
    content = encoded(turned, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    file = tmp_path / "photo"
    file.write_bytes(content)
    opened = Image.open(file)
    for source in (content, file, str(file), opened):
        np.testing.assert_allclose(quarters(load_photo(source, how)), quarters(load_photo(upright, how)), atol=6)
        decoded = photo.decode_photo(source)
        assert decoded.size == upright.size
        # What is upright is not turned again.
        np.testing.assert_array_equal(load_photo(decoded, how), load_photo(source, how))
        # Pillow turns TIFF files by itself, for torchvision too.
        left = load_photo(upright if kind == "TIFF" else turned, how)
        np.testing.assert_allclose(quarters(load_photo(source, how, exif=False)), quarters(left), atol=6)
    opened.close()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_orientation_of_other_modes(mode: str) -> None:
    upright, turned, exif = stored(6)
    turned = (
        Image.fromarray(np.asarray(turned.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else (turned.convert(mode))
    )
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert photo.decode_photo(encoded(turned, kind, exif=exif)).size == upright.size


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientations_that_there_are_not(value: int) -> None:
    samples = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(load_photo(encoded(Image.fromarray(samples), exif=exif), SMALL), samples)


def test_damaged_exif_does_not_spoil_a_photo() -> None:
    samples = noise(8, 8)
    for exif in (b"Exif\0\0II*\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", b"x"):
        np.testing.assert_array_equal(load_photo(encoded(Image.fromarray(samples), exif=exif), SMALL), samples)


def test_unusable_photos_name_the_file(tmp_path: Path) -> None:
    jpeg = encoded(Image.fromarray(noise(64, 64)), "JPEG")
    png = encoded(Image.fromarray(noise(64, 64)))
    flipped = bytearray(png)
    flipped[60] ^= 0xFF
    files = {
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "cannot be decoded"),
        "truncated.png": (png[: len(png) // 2], "cannot be decoded"),
        "flipped.png": (bytes(flipped), "cannot be"),
        "header only.jpg": (jpeg[:20], "not an image|cannot be"),
        "empty.jpg": (b"", "not an image"),
        "text.jpg": (b"file,label\n", "not an image"),
        "float.tif": (encoded(Image.new("F", (8, 8)), "TIFF"), "float samples"),
    }
    for name, (content, message) in files.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ImageError, match=message) as caught:
            load_photo(file, SMALL)
        assert name in str(caught.value)
        assert caught.value.path == file
    with pytest.raises(ImageError, match=r"absent\.jpg: cannot be read: No such file"):
        load_photo(tmp_path / "absent.jpg", SMALL)
    with pytest.raises(ImageError, match="cannot be read"):
        load_photo(tmp_path, SMALL)
    with pytest.raises(ImageError, match="image: is not an image"):
        load_photo(b"nothing", SMALL)


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_bombs_are_not_decoded(side: int) -> None:
    with pytest.raises(ImageError, match="pixels"):
        load_photo(huge_png(side, side), SMALL)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_not_decoded_where_pillow_only_warns() -> None:
    with pytest.raises(ImageError, match="10000x10000 pixels, more than"):
        load_photo(huge_png(10_000, 10_000), SMALL)


def test_slivers_do_not_grow_without_bound() -> None:
    with pytest.raises(ImageError, match="1x60000 pixels would have 256x15360000"):
        load_photo(np.zeros((60_000, 1, 3), np.uint8), Preprocessing())


def test_wrong_arrays_are_refused() -> None:
    for array, message in (
        (np.zeros((8, 8, 3), np.float32), r"must be uint8 of shape \(H, W, 3\) or \(H, W\), got float32"),
        (np.zeros((3, 8, 8), np.uint8), r"of shape \(3, 8, 8\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), "must be"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
    ):
        with pytest.raises(ImageError, match=message):
            load_photo(array, SMALL)


@pytest.mark.parametrize("dtype", [DType.S8, DType.U8])
def test_integer_input_equals_the_float_path(dtype: DType) -> None:
    preprocessing = Preprocessing(input_type=dtype)
    photos = np.stack([noise(5, 4, seed) for seed in range(2)])
    expected = preprocessing.quantize(preprocessing.normalise(photos)).transpose(0, 3, 1, 2)
    result = integer_input(photos, preprocessing)
    assert result.dtype == dtype.storage
    np.testing.assert_array_equal(result, expected)


def test_limit_is_pillows() -> None:
    """Pillow warns above it; a lower limit there would be a change to follow."""
    assert photo.MAX_PIXELS == Image.MAX_IMAGE_PIXELS
