"""The answers of a network for photos, by its task: the part of an engine that is the same for ensembles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from nybble.backends.errors import EngineError
from nybble.engine.scores import ranked, softmax
from nybble.graph import Graph
from nybble.graph.types import Array

if TYPE_CHECKING:
    from nybble.images import PhotoSource
    from nybble.images.given import Photo, Samples
    from nybble.tasks import Answer, Detections, Embedding, Restored, Segmentation, TextBoxes

#: The error for photos if the network's preprocessing is unknown.
NO_PREPROCESSING = (
    "the model has no file `preprocessing`, so it takes no photos; use run_integer, or for an ONNX file "
    "`nybble import --imagenet`"
)
#: Photos that classify() decodes before it runs them.
DECODED_PHOTOS = 8


class Prediction(NamedTuple):
    """One class of a photo's answer: its index among the classes, its name and its softmax probability."""

    label: int
    name: str
    score: float


class Answering(ABC):
    """Answers for photos, from the results of :meth:`__call__` and :meth:`run`.

    Attributes
    ----------
    graph : Graph
    """

    graph: Graph

    @abstractmethod
    def run(self, x: Array) -> dict[str, Array]:
        """All outputs of a batch of prepared photos, by name."""

    @property
    @abstractmethod
    def photo_shape(self) -> tuple[int, ...]:
        """The shape of a prepared photo."""

    @abstractmethod
    def _logits(self, x: Array) -> Array:
        """The outputs, (N, ...), of a batch of prepared photos."""

    def prepare(self, photo: PhotoSource, *, exif: bool = True) -> Array:
        """Decode, resize and crop a photo: uint8 of :attr:`photo_shape`; see :func:`nybble.images.load_photo`.

        Raises
        ------
        ImageError
            Naming the file that is not an image.
        EngineError
            If the model has no preprocessing.
        """
        # Loading a network needs no decoder of photos, which takes 20 ms to import.
        from nybble.images import load_photo

        if self.graph.preprocessing is None:
            raise EngineError(NO_PREPROCESSING)
        return load_photo(photo, self.graph.preprocessing, exif=exif)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by index: the model's own, else those of ImageNet-1k, else their numbers.

        >>> import nybble
        >>> nybble.load("efficientnet-lite0").classes[281]
        'tabby'
        """
        from nybble.images import class_names

        return tuple(class_names(self.graph))

    @overload
    def preprocess(self, photos: Photo | Iterable[Photo], *, exif: bool = True) -> Array: ...

    @overload
    def preprocess(self, photos: Samples | Iterable[Samples], *, exif: bool = True) -> Array: ...

    def preprocess(self, photos: Any, *, exif: bool = True) -> Array:
        """Decode, resize and crop photos to what a call of the engine takes.

        Parameters
        ----------
        photos : photo or iterable
            As for :meth:`classify`.
        exif : bool
            Whether photos are turned upright as their EXIF orientation says.

        Returns
        -------
        ndarray
            uint8, of :attr:`photo_shape` for one photo, (N, ...) for several.

        Raises
        ------
        ImageError
            As :meth:`classify`.
        EngineError
            If the model has no preprocessing.

        Examples
        --------
        >>> import nybble, numpy as np
        >>> engine = nybble.load("efficientnet-lite0")
        >>> photo = np.zeros((480, 640, 3), np.uint8)
        >>> engine.preprocess(photo).shape
        (224, 224, 3)
        >>> logits = engine(engine.preprocess([photo, photo]))
        >>> logits.shape
        (2, 1000)
        """
        from nybble.images.given import each, is_one

        prepared = [self.prepare(photo, exif=exif) for photo in each(photos)]
        if is_one(photos):
            return prepared[0]
        return np.stack(prepared) if prepared else np.empty((0, *self.photo_shape), np.uint8)

    # A str is an iterable of str as well; the type checker takes the first signature that fits.
    @overload
    def classify(  # type: ignore[overload-overlap]
        self, photos: Photo, top: int = 5, *, exif: bool = True
    ) -> list[Prediction]: ...

    @overload
    def classify(self, photos: Samples, top: int = 5, *, exif: bool = True) -> Any: ...

    @overload
    def classify(
        self, photos: Iterable[Photo | Samples], top: int = 5, *, exif: bool = True
    ) -> list[list[Prediction]]: ...

    def classify(self, photos: Any, top: int = 5, *, exif: bool = True) -> Any:
        """The likeliest classes of a photo, or of each of several photos, best first.

        Parameters
        ----------
        photos : photo or iterable
            A photo is a path, the bytes of a file, a Pillow image, a uint8 array (H, W, 3) or (H, W), or a tensor of
            PyTorch, uint8 or float from 0 to 1, of shape (3, H, W), (1, H, W) or (H, W); each of any size. Several
            photos are any iterable of these, or an array or a tensor with a further axis in front. At most eight photos
            of a generator are in memory at a time.
        top : int
            Classes to return for each.
        exif : bool
            Whether photos are turned upright as their EXIF orientation says.

        Returns
        -------
        list of Prediction
            Index, name and softmax probability of ``top`` classes; for several photos a list of such lists.

        Raises
        ------
        ImageError
            Naming the file that is not an image.
        EngineError
            If the model has no preprocessing.
        TypeError
            On what is neither a photo nor an iterable of photos.
        ValueError
            If ``top`` is not positive.

        Examples
        --------
        >>> import nybble, numpy as np
        >>> engine = nybble.load("efficientnet-lite0")
        >>> photo = np.full((300, 400, 3), 200, np.uint8)
        >>> best = engine.classify(photo, top=3)
        >>> len(best), best[0].score >= best[1].score
        (3, True)
        >>> answers = engine.classify(photo for _ in range(10))
        >>> len(answers), answers[0][0] == engine.classify(photo)[0]
        (10, True)
        """
        from nybble.images.given import chunks, is_one

        if top < 1:
            raise ValueError(f"top must be positive, got {top}")
        if self.graph.preprocessing is None:
            raise EngineError(NO_PREPROCESSING)
        names = self.classes
        answers: list[list[Prediction]] = []
        for some in chunks(photos, DECODED_PHOTOS):
            batch = np.stack([self.prepare(photo, exif=exif) for photo in some])
            logits = self._logits(batch).reshape(len(batch), -1)
            probabilities = softmax(logits)
            for scores, best in zip(probabilities, ranked(probabilities, top), strict=True):
                answers.append([Prediction(int(i), names[i], float(scores[i])) for i in best])
        return answers[0] if is_one(photos) else answers

    @overload
    def predict(  # type: ignore[overload-overlap]
        self, photos: Photo, *, exif: bool = True, score_threshold: float | None = None, top: int = 5
    ) -> Answer: ...

    @overload
    def predict(
        self, photos: Samples, *, exif: bool = True, score_threshold: float | None = None, top: int = 5
    ) -> Any: ...

    @overload
    def predict(
        self,
        photos: Iterable[Photo | Samples],
        *,
        exif: bool = True,
        score_threshold: float | None = None,
        top: int = 5,
    ) -> list[Answer]: ...

    def predict(self, photos: Any, *, exif: bool = True, score_threshold: float | None = None, top: int = 5) -> Any:
        """The network's answer for a photo, or for each of several photos, by its task.

        ``photos`` is as for :meth:`classify`. :func:`nybble.engine.predicting.predict` describes arrays, the other
        parameters and the errors.

        Examples
        --------
        >>> import nybble, numpy as np
        >>> engine = nybble.load("efficientnet-lite0")
        >>> answer = engine.predict(np.zeros((300, 400, 3), np.uint8), top=2)
        >>> len(answer.to_json()["classes"])
        2
        """
        from nybble.engine.predicting import predict
        from nybble.images.given import each, is_one

        answers = [predict(self, photo, exif=exif, score_threshold=score_threshold, top=top) for photo in each(photos)]
        return answers[0] if is_one(photos) else answers

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
