"""The meaning of a network's outputs, as data: the part of a task that is stored with a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from nybble.graph.errors import GraphError
from nybble.graph.tensor import Tensor
from nybble.graph.value_type import MAX_EXTENT, ValueType

#: Largest count in a task: of classes, of boxes.
MAX_COUNT = 1_000_000


def _one_of(*known: str, default: str) -> Any:
    return field(default=default, metadata={"known": known})


def _within(low: float, high: float, **default: Any) -> Any:
    return field(metadata={"range": (low, high)}, **default)


@dataclass(frozen=True)
class Task:
    """Base of the kinds of tasks. ``kind`` is the name that users see, ``label`` the type line of the file.

    Raises
    ------
    GraphError
        If a value is not valid; its ``field`` is ``task``, and the text names the key.
    """

    kind: ClassVar[str]
    label: ClassVar[str]

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            known, bounds = entry.metadata.get("known"), entry.metadata.get("range")
            if known is not None and value not in known:
                raise self.error(entry.name, f"unknown value {str(value)[:40]!r} (known: {', '.join(known)})")
            if bounds is not None and value is not None:
                for number in value if isinstance(value, tuple) else (value,):
                    if not (bounds[0] <= number <= bounds[1] and math.isfinite(number)):
                        raise self.error(entry.name, f"{number} is not in {bounds[0]}..{bounds[1]}")

    def error(self, key: str, message: str) -> GraphError:
        """An error that names a key of the task."""
        return GraphError(f"{key}: {message}", field=f"task.{key}")

    def reads(self) -> tuple[str, ...]:
        """The names of the outputs that the task reads."""
        return (str(getattr(self, "output")),)  # noqa: B009 - each kind but Detect has it

    def class_count(self, values: Mapping[str, ValueType]) -> int | None:
        """The number of classes; ``None`` for tasks without classes."""
        del values
        return None


@dataclass(frozen=True)
class Classify(Task):
    """One number for each class."""

    kind: ClassVar[str] = "classify"
    label: ClassVar[str] = "Classify"
    output: str

    def class_count(self, values: Mapping[str, ValueType]) -> int:
        """The channels of the output."""
        return values[self.output].shape[0]


@dataclass(frozen=True)
class Detect(Task):
    """Boxes, each with scores of classes.

    A *level* is one output (or one output for boxes, one for scores, one for objectness) with the numbers of some
    boxes. Levels are read one after the other. Their arrangement is ``layout``:

    - ``planes``: (channels, rows, columns); each cell has one box, or several one after the other in the channels
    - ``pixels``: (rows, columns, channels)
    - ``rows``: (boxes, numbers); where cells are needed, the boxes of all ``strides`` follow one another
    - ``columns``: (numbers, boxes)

    The four numbers ``t`` of a box are, by ``form``:

    - ``cells``: centre ``(centre(t) * centre_scale + centre_shift + cell) * stride``, size ``size(t) * unit``, where
      ``unit`` is ``stride`` or ``image``
    - ``distances``: from the point ``(cell + centre_shift) * stride`` to the left, top, right and bottom side,
      ``size(t) * stride``; with ``bins``, each is the mean of 0 to ``bins - 1`` by a softmax over that many numbers
    - ``anchors``: centre ``anchor + t * variance * anchor size``, size ``exp(t * variance) * anchor size``
    - ``corners``, ``centres``: left, top, right, bottom; or centre x, y, width, height; in pixels of the input or,
      with ``unit`` ``image``, as shares of it

    The score of a class is ``score_function(s) ** score_power * objectness_function(o) ** objectness_power``. Scores
    below ``score_threshold`` are dropped. Then non-maximum suppression per class drops boxes whose intersection over
    union with a better box is above ``nms_threshold``, and the best ``maximum`` boxes are kept.

    Attributes
    ----------
    classes : int
        Without the background.
    boxes, scores, objectness : tuple of str
        Outputs of each level; ``objectness`` is empty where there is none.
    box_first, score_first, objectness_first : int
        Place of the first number where an output has other numbers, too.
    anchors : Tensor, optional
        float32 (boxes, 4): centre x, y, width, height in pixels of the input.
    variances : tuple of float
        Factors of the four numbers of ``anchors``.
    background : int
        Which score is that of the background; -1 for none.
    best_class : bool
        Whether only the best class of each box counts.
    nms_threshold : float, optional
        ``None`` for no suppression.
    """

    kind: ClassVar[str] = "detect"
    label: ClassVar[str] = "Detect"
    classes: int = _within(1, MAX_COUNT)
    boxes: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    objectness: tuple[str, ...] = ()
    box_first: int = _within(0, MAX_COUNT, default=0)
    score_first: int = _within(0, MAX_COUNT, default=0)
    objectness_first: int = _within(0, MAX_COUNT, default=0)
    layout: str = _one_of("planes", "pixels", "rows", "columns", default="planes")
    form: str = _one_of("cells", "distances", "anchors", "corners", "centres", default="cells")
    strides: tuple[int, ...] = _within(1, MAX_EXTENT, default=())
    centre: str = _one_of("linear", "sigmoid", "tanh", default="linear")
    centre_scale: float = _within(-1e6, 1e6, default=1.0)
    centre_shift: float = _within(-1e6, 1e6, default=0.0)
    size: str = _one_of("linear", "exp", "sigmoid", "relu", default="exp")
    unit: str = _one_of("stride", "image", "pixel", default="stride")
    bins: int = _within(0, 1024, default=0)
    anchors: Tensor | None = None
    variances: tuple[float, ...] = _within(-1e6, 1e6, default=(1.0, 1.0, 1.0, 1.0))
    score_function: str = _one_of("linear", "sigmoid", "softmax", default="linear")
    objectness_function: str = _one_of("linear", "sigmoid", default="linear")
    score_power: float = _within(0, 100, default=1.0)
    objectness_power: float = _within(0, 100, default=1.0)
    background: int = _within(-1, MAX_COUNT, default=-1)
    best_class: bool = False
    score_threshold: float = _within(0, 1, default=0.05)
    nms_threshold: float | None = _within(0, 1, default=None)
    maximum: int = _within(1, MAX_COUNT, default=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.boxes:
            raise self.error("boxes", "names no output")
        for name in ("scores", "objectness"):
            count = len(getattr(self, name))
            if count != len(self.boxes) and (count or name == "scores"):
                raise self.error(name, f"names {count} outputs, but boxes names {len(self.boxes)}")
        if len(self.variances) != 4:
            raise self.error("variances", f"needs four numbers, found {len(self.variances)}")
        if (self.form == "anchors") != (self.anchors is not None):
            raise self.error("anchors", "is needed for form=anchors, and only there")
        if self.anchors is not None and (len(self.anchors.shape) != 2 or self.anchors.shape[1] != 4):
            raise self.error("anchors", f"must have the shape (boxes, 4), found {self.anchors.shape}")
        if (self.form in ("cells", "distances")) != bool(self.strides):
            raise self.error("strides", "is needed for form=cells and form=distances, and only there")
        if self.bins and self.form != "distances":
            raise self.error("bins", "is for form=distances only")
        if self.background > self.classes:
            raise self.error("background", f"{self.background} is not in 0..{self.classes}")
        if self.score_function == "softmax" and self.score_columns < 2:
            raise self.error("score_function", "softmax needs two numbers or more")

    @property
    def box_numbers(self) -> int:
        """How many numbers an output has for one box."""
        return 4 * max(1, self.bins)

    @property
    def score_columns(self) -> int:
        """How many scores an output has for one box."""
        return self.classes + (self.background >= 0)

    def reads(self) -> tuple[str, ...]:
        """The outputs of all levels, each once."""
        return tuple(dict.fromkeys((*self.boxes, *self.scores, *self.objectness)))

    def class_count(self, values: Mapping[str, ValueType]) -> int:
        """``classes``."""
        del values
        return self.classes


@dataclass(frozen=True)
class Segment(Task):
    """A class for every pixel: the channel with the largest number.

    Of an output of one channel, the number itself is the class or, with ``threshold``, numbers above it are class 1
    and others class 0.

    Attributes
    ----------
    void : int
        A class that stands for "none of them": not drawn and not counted; -1 for none.
    palette : tuple of str
        Colours of the classes as ``RRGGBB``; by default those of PASCAL VOC.
    """

    kind: ClassVar[str] = "segment"
    label: ClassVar[str] = "Segment"
    output: str
    threshold: float | None = _within(-1e30, 1e30, default=None)
    void: int = _within(-1, 255, default=-1)
    palette: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for colour in self.palette:
            if len(colour) != 6 or any(digit not in "0123456789abcdefABCDEF" for digit in colour):
                raise self.error("palette", f"{colour[:40]!r} is not a colour RRGGBB")

    def class_count(self, values: Mapping[str, ValueType]) -> int | None:
        """The channels of the output; 2 with a threshold; unknown if the output contains class numbers."""
        channels = values[self.output].shape[0]
        if channels > 1:
            return channels
        return 2 if self.threshold is not None else None


@dataclass(frozen=True)
class Restore(Task):
    """An image: denoised, sharpened, enlarged.

    Attributes
    ----------
    form : str
        ``image``, or ``residual``: what is to be subtracted from the photo.
    output_scale : float
        The value of 1 in the output, in samples of 0 to 1.
    overlap : int
        Overlap of the tiles of an image of another size, in pixels of the input: the radius of the network's receptive
        field. Used only if the preprocessing does not resize (``fit`` ``none``).
    """

    kind: ClassVar[str] = "restore"
    label: ClassVar[str] = "Restore"
    output: str
    form: str = _one_of("image", "residual", default="image")
    output_scale: float = _within(-1e6, 1e6, default=1.0)
    overlap: int = _within(0, MAX_EXTENT, default=16)


@dataclass(frozen=True)
class Embed(Task):
    """A vector, by default brought to length 1."""

    kind: ClassVar[str] = "embed"
    label: ClassVar[str] = "Embed"
    output: str
    normalise: bool = True


@dataclass(frozen=True)
class Text(Task):
    """Places of text by DBNet: a map of how likely each pixel is text (Liao et al. 2020).

    Attributes
    ----------
    function : str
        The function that turns the output into a probability.
    threshold : float
        Pixels above it are text.
    box_threshold : float
        Least mean probability in a box.
    unclip_ratio : float
        Boxes grow by their area times this, divided by their perimeter.
    shortest : float
        Least short side of a box, in pixels of the map.
    maximum : int
        Most regions that are examined.
    """

    kind: ClassVar[str] = "text"
    label: ClassVar[str] = "Text"
    output: str
    function: str = _one_of("linear", "sigmoid", default="linear")
    threshold: float = _within(0, 1, default=0.3)
    box_threshold: float = _within(0, 1, default=0.6)
    unclip_ratio: float = _within(0, 100, default=1.5)
    shortest: float = _within(0, MAX_EXTENT, default=3.0)
    maximum: int = _within(1, MAX_COUNT, default=1000)


#: Every kind, by the type line of the file.
TASKS: Mapping[str, type[Task]] = {kind.label: kind for kind in (Classify, Detect, Segment, Restore, Embed, Text)}
