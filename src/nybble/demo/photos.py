"""The sample photos: two that come with nybble, and others inside the wheel of scikit-image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nybble.examples import example_photos


@dataclass(frozen=True)
class Sample:
    """A photo, its subject, and the right answers.

    Attributes
    ----------
    file : str
        Its name in ``nybble/data/photos`` and in ``skimage/data``.
    shows : str
    classes : tuple of int
        The ImageNet-1k classes that are right; none where no class says what the photo shows.
    remark : str
        A remark on these classes, or an empty string.
    """

    file: str
    shows: str
    classes: tuple[int, ...] = ()
    remark: str = ""


#: Left out are textures, drawings, microscopy and a clock blurred by motion that the float network does not recognise.
PHOTOS = (
    Sample("chelsea.png", "a cat", (281, 282, 285), "a tabby: ImageNet also has tiger cats and Egyptian cats"),
    Sample("coffee.png", "a cup of coffee", (504, 967, 968)),
    Sample("motorcycle_left.png", "a motorcycle", (665, 670), "ImageNet's nearest are moped and motor scooter"),
    Sample("camera.png", "a camera on its tripod", (759, 872)),
    Sample("rocket.jpg", "a rocket on its pad", (657, 744), "ImageNet's nearest are missile and projectile"),
    Sample("astronaut.png", "an astronaut", (), "ImageNet has no class for astronauts"),
)


def samples() -> list[tuple[Sample, Path]]:
    """The sample photos that are here, with their files: without scikit-image, the two that come with nybble."""
    package = find_spec("skimage")
    places = package.submodule_search_locations if package is not None else None
    files = {path.name: path for place in places or () for path in (Path(place) / "data").glob("*")}
    files.update((path.name, path) for path in example_photos())
    return [(sample, files[sample.file]) for sample in PHOTOS if sample.file in files]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file in hex: recorded answers hold for one version of a photo."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
