"""From a photo to the answer of a task, through an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from nybble.backends.errors import EngineError
from nybble.graph import Graph, Preprocessing, Restore, Task
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
    """The answers of a network for one photo, by its task.

    Parameters
    ----------
    engine : Engine
    photo : photo or ndarray
        Or float32 samples (rows, columns, channels) of the size of the input, 1 for white, RGB or gray; values outside
        0 to 1 are possible. A restoring network that does not resize takes photos and samples of any size, in tiles.
    exif : bool
        Whether the photo is turned upright as its EXIF orientation says.
    score_threshold : float, optional
        Least score of a box, in place of the task's.
    top : int
        Classes of a classification.

    Raises
    ------
    ImageError
        Naming the file that is not an image.
    EngineError
        If the model has no preprocessing.
    GraphError
        If the model has no task, or outputs that do not fit it.
    ValueError
        On samples of another shape.
    """
    seen, fit = fitted(engine.graph, photo, exif=exif)
    return answer_fitted(engine, seen, fit, score_threshold=score_threshold, top=top)


def fitted(graph: Graph, photo: PhotoSource, *, exif: bool = True) -> tuple[Array, Fit]:
    """The samples of a photo that a network reads, and where the photo lies in them. This part needs no engine.

    Parameters and errors are those of :func:`predict`.

    Returns
    -------
    samples : ndarray
        uint8 or float32 (rows, columns, channels) in the network's channel order; of the photo's size where a restoring
        network does not resize.
    fit : Fit
    """
    from nybble.tasks import task_of

    preprocessing = _preprocessing(graph)
    task = task_of(graph)  # Raises before the photo is decoded.
    if isinstance(task, Restore) and preprocessing.fit == "none":
        return _whole(photo, preprocessing, exif)
    return _fitted(photo, preprocessing, exif)


def answer_fitted(
    engine: Runner, seen: Array, fit: Fit, *, score_threshold: float | None = None, top: int = 5
) -> Answer:
    """The network's answer for samples that :func:`fitted` has made. Parameters and errors: :func:`predict`."""
    from nybble.tasks import answer, task_of

    preprocessing, task = _preprocessing(engine.graph), task_of(engine.graph)
    if isinstance(task, Restore) and seen.shape[:2] != preprocessing.crop:
        outputs = {task.output: _tiled(engine, task, seen, preprocessing)}
    else:
        outputs = {name: values[0] for name, values in engine.run(_batch(seen, preprocessing)).items()}
    return answer(engine.graph, outputs, fit, seen, score_threshold=score_threshold, top=top)


def _preprocessing(graph: Graph) -> Preprocessing:
    if graph.preprocessing is None:
        raise EngineError("the model has no file `preprocessing`, so it takes no photos; use run")
    return graph.preprocessing


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


def _whole(photo: PhotoSource, preprocessing: Preprocessing, exif: bool) -> tuple[Array, Fit]:
    """The samples (rows, columns, channels) of a photo at its own size, in the network's channel order."""
    from nybble.images import Fit, decode_photo

    if isinstance(photo, np.ndarray) and photo.dtype == np.float32:
        if photo.ndim != 3 or photo.shape[2] != len(preprocessing.mean) or not photo.size:
            raise ValueError(
                f"expected float32 samples (rows, columns, {len(preprocessing.mean)}), got shape {photo.shape}"
            )
        samples = photo
    else:
        image = decode_photo(photo, exif=exif)
        image = image if len(preprocessing.mean) == 3 else image.convert("L")
        samples = np.asarray(image).reshape(image.height, image.width, -1)
    size = (samples.shape[0], samples.shape[1])
    return _ordered(samples, preprocessing), Fit(size, size, 0, 0, size)


def _tiled(engine: Runner, task: Restore, seen: Array, preprocessing: Preprocessing) -> Array:
    """The output of a restoring network for samples of any size."""
    from nybble.tasks.tiling import run_tiled

    def run(tile: Array) -> Array:
        output: Array = engine.run(_batch(tile, preprocessing))[task.output][0]
        return output

    try:
        return run_tiled(run, seen, preprocessing.crop, task.overlap)
    except ValueError as error:
        raise task.error("overlap", str(error)) from error


def _fitted(photo: PhotoSource, preprocessing: Preprocessing, exif: bool) -> tuple[Array, Fit]:
    """The samples (rows, columns, channels) of the input, and where the photo lies in them."""
    from pathlib import Path

    from nybble.images import Fit, decode_photo, fit_photo

    if not (isinstance(photo, np.ndarray) and photo.dtype == np.float32):
        path = Path(photo) if isinstance(photo, str | Path) else None
        return fit_photo(decode_photo(photo, exif=exif), preprocessing, path)
    size = preprocessing.crop
    expected = (*size, len(preprocessing.mean))
    if photo.shape != expected:
        raise ValueError(f"expected float32 samples of shape {expected}, got {photo.shape}")
    return _ordered(photo, preprocessing), Fit(size, size, 0, 0, size)


def _ordered(samples: Array, preprocessing: Preprocessing) -> Array:
    """RGB samples in the network's channel order."""
    return np.ascontiguousarray(samples[..., ::-1] if preprocessing.channel_order == "BGR" else samples)


def _batch(seen: Array, preprocessing: Preprocessing) -> Array:
    """What the engine takes: uint8 (1, rows, columns, channels), or normalised float32 (1, channels, rows, columns)."""
    if seen.dtype == np.uint8:
        return seen[None]
    mean, std = np.asarray(preprocessing.mean, np.float32), np.asarray(preprocessing.std, np.float32)
    return np.ascontiguousarray(((seen - mean) / std).transpose(2, 0, 1)[None])
