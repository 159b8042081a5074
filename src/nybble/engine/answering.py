"""What a network says of photos, by its task: the part of an engine that is the same for ensembles."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nybble.backends.errors import EngineError
from nybble.engine.scores import ranked, softmax
from nybble.graph import Graph
from nybble.graph.types import Array

if TYPE_CHECKING:
    from nybble.images import PhotoSource
    from nybble.tasks import Answer, Detections, Embedding, Restored, Segmentation, TextBoxes

#: Photos that classify() decodes before it runs them.
DECODED_PHOTOS = 8


class Prediction(NamedTuple):
    """One class of a photo's answer: its index among the classes, its name and its softmax probability."""

    label: int
    name: str
    score: float


class Answering(ABC):
    """Photos in, answers out, over the results of :meth:`__call__` and :meth:`run`.

    Attributes
    ----------
    graph : Graph
    """

    graph: Graph

    @abstractmethod
    def run(self, x: Array) -> dict[str, Array]:
        """All outputs of a batch of prepared photos, by name."""

    @abstractmethod
    def _logits(self, x: Array) -> Array:
        """Numbers of each class, (N, ...), of a batch of prepared photos."""

    def prepare(self, photo: PhotoSource, *, exif: bool = True) -> Array:
        """Decode, resize and crop a photo: uint8 of :attr:`photo_shape`; see :func:`nybble.images.load_photo`.

        Raises
        ------
        ImageError
            Naming the file that is no image.
        EngineError
            If the model has no preprocessing.
        """
        # Loading a network needs no decoder of photos, which takes 20 ms to import.
        from nybble.images import load_photo

        if self.graph.preprocessing is None:
            raise EngineError("the model has no file `preprocessing`, so it takes no photos; use run_integer")
        return load_photo(photo, self.graph.preprocessing, exif=exif)

    def classify(self, photos: Sequence[PhotoSource], top: int = 5, *, exif: bool = True) -> list[list[Prediction]]:
        """The likeliest classes of each photo, best first.

        Parameters
        ----------
        photos : sequence
            Paths, Pillow images or uint8 (H, W, 3) arrays of any size.
        top : int
            Classes to return for each.
        exif : bool
            Whether photos are turned upright as their EXIF orientation says.

        Raises
        ------
        ImageError
            Naming the file that is no image.
        ValueError
            If the model has no preprocessing, or ``top`` is not positive.
        """
        from nybble.images import class_names

        if top < 1:
            raise ValueError(f"top must be positive, got {top}")
        if isinstance(photos, str | os.PathLike | np.ndarray):
            raise ValueError("expected a list of photos, got one path or array; put it in a list")
        if self.graph.preprocessing is None:
            raise EngineError("the model has no file `preprocessing`, so it takes no photos; use run_integer")
        names = class_names(self.graph)
        answers: list[list[Prediction]] = []
        for first in range(0, len(photos), DECODED_PHOTOS):
            some = photos[first : first + DECODED_PHOTOS]
            batch = np.stack([self.prepare(photo, exif=exif) for photo in some])
            logits = self._logits(batch).reshape(len(batch), -1)
            probabilities = softmax(logits)
            for scores, best in zip(probabilities, ranked(probabilities, top), strict=True):
                answers.append([Prediction(int(i), names[i], float(scores[i])) for i in best])
        return answers

    def predict(
        self, photo: PhotoSource, *, exif: bool = True, score_threshold: float | None = None, top: int = 5
    ) -> Answer:
        """What the network says of one photo, by its task; see :func:`nybble.engine.predicting.predict`."""
        from nybble.engine.predicting import predict

        return predict(self, photo, exif=exif, score_threshold=score_threshold, top=top)

    def detect(self, photo: PhotoSource, *, exif: bool = True, score_threshold: float | None = None) -> Detections:
        """Boxes in pixels of the photo, best first; as :meth:`predict`, for a network whose task is ``Detect``."""
        from nybble.engine.predicting import predict_as
        from nybble.graph import Detect
        from nybble.tasks import Detections

        return predict_as(self, Detect, Detections, photo, exif=exif, score_threshold=score_threshold)

    def segment(self, photo: PhotoSource, *, exif: bool = True) -> Segmentation:
        """A class for every pixel of the photo; as :meth:`predict`, for a network whose task is ``Segment``."""
        from nybble.engine.predicting import predict_as
        from nybble.graph import Segment
        from nybble.tasks import Segmentation

        return predict_as(self, Segment, Segmentation, photo, exif=exif)

    def restore(self, photo: PhotoSource, *, exif: bool = True) -> Restored:
        """An image made of the photo; as :meth:`predict`, for a network whose task is ``Restore``."""
        from nybble.engine.predicting import predict_as
        from nybble.graph import Restore
        from nybble.tasks import Restored

        return predict_as(self, Restore, Restored, photo, exif=exif)

    def embed(self, photo: PhotoSource, *, exif: bool = True) -> Embedding:
        """A vector that stands for the photo; as :meth:`predict`, for a network whose task is ``Embed``."""
        from nybble.engine.predicting import predict_as
        from nybble.graph import Embed
        from nybble.tasks import Embedding

        return predict_as(self, Embed, Embedding, photo, exif=exif)

    def find_text(self, photo: PhotoSource, *, exif: bool = True) -> TextBoxes:
        """Places of text in the photo; as :meth:`predict`, for a network whose task is ``Text``."""
        from nybble.engine.predicting import predict_as
        from nybble.graph import Text
        from nybble.tasks import TextBoxes

        return predict_as(self, Text, TextBoxes, photo, exif=exif)
