"""The answers of a network for one photo: small types with methods to draw them and to convert them to JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nybble.graph.types import Array
from nybble.tasks import drawing

if TYPE_CHECKING:
    from PIL import Image

    from nybble.images import PhotoSource

#: Least score of a box that is drawn.
SHOWN_SCORE = 0.3


@dataclass(frozen=True, eq=False)
class Classes:
    """The likeliest classes, best first.

    Attributes
    ----------
    labels, scores : ndarray
        int64 and float32 (N); scores are probabilities by softmax.
    names : tuple of str
        Of all classes of the network.
    """

    labels: Array
    scores: Array
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """``classes``: ``index``, ``name`` and ``score`` of each."""
        pairs = zip(self.labels.tolist(), self.scores.tolist(), strict=True)
        return {"classes": [{"index": label, "name": self.names[label], "score": score} for label, score in pairs]}

    def draw(self, photo: PhotoSource) -> Image.Image:
        """A copy of the photo with the best class written on it."""
        texts = [f"{self.names[label]} {score:.0%}" for label, score in zip(self.labels, self.scores, strict=True)]
        return drawing.draw_boxes(photo, np.zeros((min(1, len(texts)), 4)), self.labels[:1], texts[:1])


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes in pixels of the photo, best first.

    Attributes
    ----------
    boxes : ndarray
        float32 (N, 4): left, top, right, bottom.
    scores : ndarray
        float32 (N), 0 to 1.
    labels : ndarray
        int64 (N).
    names : tuple of str
        Of all classes of the network.
    """

    boxes: Array
    scores: Array
    labels: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score: float) -> Detections:
        """Those whose score is at least ``score``."""
        kept = self.scores >= score
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept], self.names)

    def to_json(self) -> dict[str, Any]:
        """``boxes``: ``box``, ``label``, ``name`` and ``score`` of each."""
        rows = zip(self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True)
        return {
            "boxes": [
                {"box": box, "label": label, "name": self.names[label], "score": score} for box, score, label in rows
            ]
        }

    def draw(self, photo: PhotoSource, score: float = SHOWN_SCORE) -> Image.Image:
        """A copy of the photo with the boxes whose score is at least ``score``."""
        shown = self.above(score)
        texts = [f"{self.names[label]} {chance:.0%}" for label, chance in zip(shown.labels, shown.scores, strict=True)]
        return drawing.draw_boxes(photo, shown.boxes, shown.labels, texts)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A class for every pixel of the photo.

    Attributes
    ----------
    labels : ndarray
        int64 (rows, columns); -1 where the network has not seen the photo, since it was cut off.
    names : tuple of str
        Of all classes.
    palette : ndarray
        uint8 (classes, 3).
    void : int
        A class that is not drawn; -1 for none.
    """

    labels: Array
    names: tuple[str, ...]
    palette: Array
    void: int = -1

    def to_json(self) -> dict[str, Any]:
        """``size`` (rows, columns), and ``classes``: ``label``, ``name`` and ``pixels`` of each that occurs."""
        labels, counts = np.unique(self.labels, return_counts=True)
        found = [
            {"label": label, "name": self.names[label], "pixels": count}
            for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
            if 0 <= label < len(self.names)
        ]
        return {"size": list(self.labels.shape), "classes": found}

    def draw(self, photo: PhotoSource) -> Image.Image:
        """A copy of the photo with the colours of the classes over it."""
        return drawing.draw_map(photo, self.labels, self.palette, [self.void])

    def mask(self) -> Image.Image:
        """The classes as an image of one channel with a palette; 255 where there is none."""
        from PIL import Image

        image = Image.fromarray(np.where((self.labels < 0) | (self.labels > 255), 255, self.labels).astype(np.uint8))
        image.putpalette(self.palette[:256].reshape(-1).tolist())
        return image


@dataclass(frozen=True, eq=False)
class Restored:
    """An image that a network has made of a photo.

    Attributes
    ----------
    samples : ndarray
        float32 (rows, columns, 1 or 3), 0 to 1, in RGB order.
    """

    samples: Array

    def image(self) -> Image.Image:
        """In 8 bits: mode L or RGB."""
        from PIL import Image

        rounded = np.rint(self.samples * 255).astype(np.uint8)
        return Image.fromarray(rounded[..., 0] if rounded.shape[2] == 1 else rounded)

    def to_json(self) -> dict[str, Any]:
        """``size`` (rows, columns, channels)."""
        return {"size": list(self.samples.shape)}

    def draw(self, photo: PhotoSource | None = None) -> Image.Image:
        """The image itself; the photo is not needed."""
        del photo
        return self.image()


@dataclass(frozen=True, eq=False)
class Embedding:
    """A vector that stands for the photo.

    Attributes
    ----------
    vector : ndarray
        float32 (N).
    """

    vector: Array

    def similarity(self, other: Embedding) -> float:
        """The cosine of the angle between two vectors; 0 where one has no length."""
        length = float(np.linalg.norm(self.vector) * np.linalg.norm(other.vector))
        return float(self.vector @ other.vector) / length if length else 0.0

    def to_json(self) -> dict[str, Any]:
        """``embedding``: the numbers."""
        return {"embedding": self.vector.tolist()}

    def draw(self, photo: PhotoSource) -> Image.Image:
        """A copy of the photo: there is nothing to draw."""
        return drawing.opened(photo)


@dataclass(frozen=True, eq=False)
class TextBoxes:
    """Places of text in pixels of the photo.

    Attributes
    ----------
    polygons : ndarray
        float32 (N, 4, 2): corners x, y of each, clockwise from the top left.
    scores : ndarray
        float32 (N), 0 to 1.
    """

    polygons: Array
    scores: Array

    def __len__(self) -> int:
        return len(self.polygons)

    def to_json(self) -> dict[str, Any]:
        """``texts``: ``corners`` and ``score`` of each."""
        rows = zip(self.polygons.tolist(), self.scores.tolist(), strict=True)
        return {"texts": [{"corners": corners, "score": score} for corners, score in rows]}

    def draw(self, photo: PhotoSource) -> Image.Image:
        """A copy of the photo with the outlines."""
        return drawing.draw_polygons(photo, self.polygons)


#: The answer of any task.
Answer = Classes | Detections | Segmentation | Restored | Embedding | TextBoxes
