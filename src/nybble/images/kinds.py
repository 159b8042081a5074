"""Which files are photos: by suffix where Pillow knows it, else by content."""

from __future__ import annotations

import io
import warnings
from functools import cache

#: Files that are often found beside photos.
_OTHER_NAMES = frozenset(("thumbs.db", "desktop.ini", "license", "readme", "makefile"))
_OTHER_SUFFIXES = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".rst", ".html", ".htm", ".yaml", ".yml", ".toml"),
        *(".ini", ".log", ".pdf", ".py", ".sh", ".npy", ".npz", ".pt", ".pth", ".onnx", ".md5", ".sha1", ".sha256"),
        *(".zip", ".tar", ".gz", ".xz", ".bz2", ".7z"),
    )
)
#: Formats that Pillow recognises but cannot decode without a handler.
_STUBS = frozenset(("BUFR", "GRIB", "HDF5", "MPEG", "WMF"))


def is_ignored(name: str) -> bool:
    """Whether a file of that name is passed over silently: a hidden file, or one of another known type."""
    lower = name.lower()
    return name.startswith(".") or lower in _OTHER_NAMES or _suffix(lower) in _OTHER_SUFFIXES


def has_photo_suffix(name: str) -> bool:
    """Whether the suffix is one of a format that Pillow decodes, ignoring case."""
    return _suffix(name.lower()) in photo_suffixes()


@cache
def photo_suffixes() -> frozenset[str]:
    """Suffixes, with their dot, of the formats that Pillow decodes."""
    from PIL import Image

    known = _formats()
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in known)


def why_no_photo(source: str | bytes) -> str | None:
    """Why a file, given by its path or its content, is not a photo; ``None`` where its header is that of one."""
    from PIL import Image, UnidentifiedImageError

    try:
        # The size is checked when it is decoded.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_formats()).close()
    except UnidentifiedImageError:
        return "is not an image that Pillow can read"
    except Image.DecompressionBombError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except Exception as error:  # Pillow's plugins pass on any exception that a damaged file causes.
        return f"cannot be decoded: {error}"
    return None


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem else ""


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(kind for kind in Image.OPEN if kind not in _STUBS)
