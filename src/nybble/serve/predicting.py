"""Photos of a request to the input of a network, and its outputs to the answer of its task."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nybble.graph import Graph, GraphError
from nybble.graph.types import Array
from nybble.images import Fit, ImageError, PhotoSource, decode_photo, fit_photo
from nybble.serve.errors import BadRequestError
from nybble.serve.results import unpacked
from nybble.serve.served import Served

if TYPE_CHECKING:
    from PIL import Image

    from nybble.tasks import Answer


class Fitted(NamedTuple):
    """The samples of an input, and where the photo lies in them."""

    samples: Array
    fit: Fit


class Asked(NamedTuple):
    """Options of a request for answers: the least score of a box, the number of classes, and whether images are
    included (a mask, or what a restoring network has made), as PNG in base64.
    """

    score: float | None
    top: int
    images: bool


def fitting(graph: Graph) -> Callable[..., Fitted]:
    """The function that brings a decoded photo to the input of a network."""
    preprocessing = graph.preprocessing
    assert preprocessing is not None  # noqa: S101 - others are not served

    def prepare(photo: PhotoSource, *, exif: bool) -> Fitted:
        return Fitted(*fit_photo(decode_photo(photo, exif=exif), preprocessing))

    return prepare


def answers(served: Served, fitted: Sequence[Fitted], values: Array, how: Asked) -> list[dict[str, Any]]:
    """The answer for each photo of a request, from the results of the lane.

    Raises
    ------
    BadRequestError
        Where the task does not fit the outputs.
    """
    from nybble.tasks import answer

    graph = served.engine.graph
    results = {graph.outputs[0]: values} if served.classifies else unpacked(values, served.outputs)
    found = []
    for place, each in enumerate(fitted):
        outputs = {name: value[place] for name, value in results.items()}
        try:
            said = answer(graph, outputs, each.fit, each.samples, score_threshold=how.score, top=how.top)
        except (GraphError, ImageError) as error:
            raise BadRequestError(f"model {served.name!r}: {error}") from None
        image = _image(said) if how.images else None
        found.append({**said.to_json(), **({} if image is None else {"image": _png(image)})})
    return found


def _image(said: Answer) -> Image.Image | None:
    """The mask of a segmentation, or the image that was made; other answers are not images."""
    from nybble.tasks import Restored, Segmentation

    if isinstance(said, Segmentation):
        return said.mask()
    return said.image() if isinstance(said, Restored) else None


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
