"""From a photo to the answer of a task, over the outputs of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from nybble.backends.errors import EngineError
from nybble.graph import Graph, Preprocessing, Task
from nybble.graph.types import Array

if TYPE_CHECKING:
    from nybble.images import Fit, PhotoSource
    from nybble.tasks import Answer


Kind = TypeVar("Kind")


class Runner(Protocol):
    """What runs a network: an engine."""

    @property
    def graph(self) -> Graph:
        """The network."""
        ...

    def run(self, x: Array) -> dict[str, Array]:
        """All outputs of a batch of photos, by name."""
        ...


def predict(
    engine: Runner, photo: PhotoSource, *, exif: bool = True, score_threshold: float | None = None, top: int = 5
) -> Answer:
    """What a network says of one photo, by its task.

    Parameters
    ----------
    engine : Engine
    photo : photo or ndarray
        Or float32 samples (rows, columns, channels) of the size of the input, 1 for white, RGB or gray; values outside
        0 to 1 are possible.
    exif : bool
        Whether the photo is turned upright as its EXIF orientation says.
    score_threshold : float, optional
        Least score of a box, in place of the task's.
    top : int
        Classes of a classification.

    Raises
    ------
    ImageError
        Naming the file that is no image.
    EngineError
        If the model has no preprocessing.
    GraphError
        If the model has no task, or outputs that do not fit it.
    ValueError
        On samples of another shape.
    """
    # Loading a network needs no decoder of photos, which takes 20 ms to import.
    from nybble.tasks import answer, task_of

    preprocessing = engine.graph.preprocessing
    if preprocessing is None:
        raise EngineError("the model has no file `preprocessing`, so it takes no photos; use run")
    task_of(engine.graph)  # Before the network runs for nothing.
    batch, seen, fit = _prepared(photo, preprocessing, exif)
    outputs = {name: values[0] for name, values in engine.run(batch).items()}
    return answer(engine.graph, outputs, fit, seen, score_threshold=score_threshold, top=top)


def predict_as(
    engine: Runner,
    task: type[Task],
    kind: type[Kind],
    photo: PhotoSource,
    *,
    exif: bool = True,
    score_threshold: float | None = None,
) -> Kind:
    """As :func:`predict`, for a network of one kind of task.

    Raises
    ------
    EngineError
        Where the network has another task.
    """
    from nybble.tasks import task_of

    found = task_of(engine.graph)
    if not isinstance(found, task):
        raise EngineError(f"the task of the model is {found.kind}, not {task.kind}; `predict` does what it says")
    result = predict(engine, photo, exif=exif, score_threshold=score_threshold)
    assert isinstance(result, kind)  # noqa: S101
    return result


def _prepared(photo: PhotoSource, preprocessing: Preprocessing, exif: bool) -> tuple[Array, Array, Fit]:
    """The batch of one photo, its samples (rows, columns, channels) and where the photo lies in them."""
    from pathlib import Path

    from nybble.images import Fit, decode_photo, fit_photo

    if not (isinstance(photo, np.ndarray) and photo.dtype == np.float32):
        path = Path(photo) if isinstance(photo, str | Path) else None
        samples, fit = fit_photo(decode_photo(photo, exif=exif), preprocessing, path)
        return samples[None], samples, fit
    expected = (*preprocessing.crop, len(preprocessing.mean))
    if photo.shape != expected:
        raise ValueError(f"expected float32 samples of shape {expected}, got {photo.shape}")
    seen = np.ascontiguousarray(photo[..., ::-1] if preprocessing.channel_order == "BGR" else photo)
    normalised = (seen - np.asarray(preprocessing.mean, np.float32)) / np.asarray(preprocessing.std, np.float32)
    size = preprocessing.crop
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None]), seen, Fit(size, size, 0, 0, size)
