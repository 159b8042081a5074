"""Two photos that come with nybble, to try it without photos of your own."""

from __future__ import annotations

from pathlib import Path


def example_photos() -> list[Path]:
    """The photos that the package contains: ``chelsea.png``, a cat, and ``coffee.png``, a cup of coffee.

    Both are dedicated to the public domain (CC0); ``data/README.md`` names the photographers.

    Returns
    -------
    list of Path
        Files of 8-bit RGB, of (300, 451) and (400, 600) pixels (rows, columns).
    """
    return sorted((Path(__file__).resolve().parent / "data" / "photos").glob("*.png"))
