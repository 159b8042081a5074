"""Networks that answer together, with the API of an engine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, overload

import numpy as np

from nybble.backends import Executable, described
from nybble.engine.engine import Engine, SupportsDLPack
from nybble.engine.ensemble.probabilities import calibrated, is_deferred, logarithms
from nybble.engine.ensemble.settings import EnsembleError, Kind, Measure, MemberSettings, read_settings
from nybble.graph import Preprocessing, read_graph
from nybble.graph.reading import is_model_file
from nybble.graph.types import Array
from nybble.models import ModelNotFoundError, locate

if TYPE_CHECKING:
    from nybble.backends.cpu.plan import Plan
    from nybble.images import PhotoSource
    from nybble.lower import Step


class Member(NamedTuple):
    """An engine of an ensemble.

    Attributes
    ----------
    engine : Engine
    temperature : float
        What its logits are divided by before the softmax.
    weight : float
        Of its probabilities in the mean.
    threshold : (str, float), optional
        In a cascade, of all members but the last: ``margin`` or ``entropy``, and the number below or above which the
        next member runs.
    name : str
        For people.
    """

    engine: Engine
    temperature: float = 1.0
    weight: float = 1.0
    threshold: tuple[Measure, float] | None = None
    name: str = ""


class Answers(NamedTuple):
    """The answers of an ensemble for N photos.

    Attributes
    ----------
    probabilities : ndarray
        float64 (N, classes).
    asked : ndarray
        int64 (N,): how many members ran for each photo, counted from the first.
    seconds : ndarray
        float64 (members,): how long each ran; 0 for one that did not run.
    """

    probabilities: Array
    asked: Array
    seconds: Array


class Ensemble(Engine):
    """The weighted mean of calibrated probabilities of several networks.

    It has an engine's API for photos. Its logits are the logarithms of the mean probabilities, so that their softmax
    gives these probabilities. Photos are decoded once; members that resize and crop alike share the result.

    Parameters
    ----------
    members : sequence of Member
        At least two, with the same classes. All take photos. Closing the ensemble closes their engines.

    Raises
    ------
    EnsembleError
        If members differ in their classes or inputs.

    Notes
    -----
    Several Python threads may call one ensemble. ``graph`` is that of the first member: it names the classes and, if
    ``photo_shape`` has three extents, states how photos are prepared. ``folders`` are those of the members, where a
    file described them.
    """

    kind: Kind = "mean"

    def __init__(self, members: Sequence[Member]) -> None:
        from nybble.images import class_names

        self.members = tuple(members)
        if len(self.members) < 2:
            raise EnsembleError(f"an ensemble needs at least two members, got {len(self.members)}")
        first = self.members[0].engine
        names = class_names(first.graph)
        self.folders: tuple[Path, ...] = ()
        self.preprocessings: tuple[Preprocessing, ...] = tuple(map(_preprocessing, self.members))
        for place, member in enumerate(self.members):
            if member.temperature <= 0 or member.weight <= 0:
                raise EnsembleError(f"member {place}: temperature and weight must be positive")
            if class_names(member.engine.graph) != names:
                raise EnsembleError(
                    f"{_called(member, place)}: its classes are not those of {_called(self.members[0], 0)}"
                )
            self._check_threshold(place, member)
        self.graph = first.graph
        self.isa, self.threads = first.isa, first.threads
        self._is_closed = False
        self._forms = list(dict.fromkeys(map(_form, self.preprocessings)))
        sizes = [int(np.prod(_shape(self._preprocessing_of(form)))) for form in self._forms]
        self._ends = np.cumsum([0, *sizes]).tolist()

    def _check_threshold(self, place: int, member: Member) -> None:
        if member.threshold is not None:
            raise EnsembleError(f"{_called(member, place)}: has a threshold, but a mean runs all members")

    @property
    def photo_shape(self) -> tuple[int, ...]:
        """(H, W, C) of a prepared photo; (bytes,), all crops in a row, where members resize or crop differently."""
        return _shape(self.preprocessings[0]) if len(self._forms) == 1 else (self._ends[-1],)

    @property
    def tuned(self) -> bool:
        """Whether all members run on stored choices of kernels."""
        return all(member.engine.tuned for member in self.members)

    @property
    def value_bytes(self) -> int:
        """Memory of the values of one image, in the member that needs most."""
        return max(member.engine.value_bytes for member in self.members)

    @property
    def crop_shape(self) -> tuple[int, ...] | None:
        """(H, W, C) of the crop where it is the same for all members; ``None`` where it is not."""
        shapes = set(map(_shape, self.preprocessings))
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def plan(self) -> Plan:
        """Refused: there is a plan of each member."""
        self._refuse("has no plan of its own")

    @property
    def cpu_plan(self) -> None:
        """None: there is a plan of each member."""
        return

    @property
    def steps(self) -> Sequence[Step]:
        """None: each member has its own."""
        return ()

    def kernel_name(self, step: str) -> None:
        """None: each member has its own."""
        return

    def prepare(self, photo: PhotoSource, *, exif: bool = True) -> Array:
        """Decode a photo once, and resize and crop it as each member requires; uint8 of :attr:`photo_shape`.

        Raises
        ------
        ImageError
            Naming the file that is not an image.
        """
        from nybble.images import decode_photo, load_photo
        from nybble.images.errors import ImageError

        if len(self._forms) == 1:
            return load_photo(photo, self.preprocessings[0], exif=exif)
        decoded = decode_photo(photo, exif=exif)
        try:
            parts = [load_photo(decoded, self._preprocessing_of(form), exif=False) for form in self._forms]
        except ImageError as error:
            path = Path(photo) if isinstance(photo, str | Path) else None
            raise ImageError(path, error.message) from None
        return np.concatenate([part.reshape(-1) for part in parts])

    def from_crops(self, x: Array) -> Array:
        """Crops that all members read, in the form of prepared photos.

        Parameters
        ----------
        x : array
            uint8 ``(N, *crop_shape)``.

        Returns
        -------
        array
            uint8 ``(N, *photo_shape)``.
        """
        return x if len(self._forms) == 1 else np.tile(x.reshape(len(x), -1), len(self._forms))

    def answers(self, x: Array) -> Answers:
        """Probabilities of prepared photos, and how many members ran for each.

        Parameters
        ----------
        x : array
            uint8 ``(N, *photo_shape)``, as :meth:`prepare` makes them; or ``(N, *crop_shape)``, which all members then
            read, even if their own resizing differs.

        Raises
        ------
        ValueError
            On another dtype or shape.
        """
        self._check(x)
        seconds = np.zeros(len(self.members))
        said = [
            member.weight * self._member_probabilities(place, x, seconds) for place, member in enumerate(self.members)
        ]
        weight = sum(member.weight for member in self.members)
        return Answers(np.sum(said, axis=0) / weight, np.full(len(x), len(self.members)), seconds)

    @overload
    def __call__(self, x: Array) -> Array: ...

    @overload
    def __call__(self, x: SupportsDLPack) -> object: ...

    def __call__(self, x: Array | SupportsDLPack) -> Array | object:
        """Logarithms of the probabilities, float32 (N, classes); ``x`` as for :meth:`answers`."""
        if not isinstance(x, np.ndarray):
            self._refuse("takes arrays of NumPy, not those of a GPU")
        return logarithms(self.answers(x).probabilities)

    def run_integer(self, x: Array) -> Array:
        """Refused: members have integer inputs of their own."""
        self._refuse("takes photos, not integers")

    def reshape(self, rows: int, columns: int) -> Engine:
        """Refused: members have inputs of their own."""
        self._refuse("has no size of its own")

    def tap(self, x: Array) -> dict[str, Array]:
        """Refused: only a single network has steps."""
        self._refuse("has no steps of its own")

    def step_times(self, x: Array) -> dict[str, int]:
        """Refused: only a single network has steps."""
        self._refuse("has no steps of its own")

    def close(self) -> None:
        """Close the engines of all members."""
        self._is_closed = True
        for member in self.members:
            member.engine.close()

    def __repr__(self) -> str:
        names = ", ".join(_called(member, place) for place, member in enumerate(self.members))
        return f"<nybble.{type(self).__name__}: {names}>"

    def member_logits(self, place: int, x: Array) -> Array:
        """float32 (N, classes) logits of one member for prepared photos, before its temperature."""
        logits = self.members[place].engine(self._part(place, x))
        return logits.reshape(len(x), math.prod(logits.shape[1:]))

    def logits(self, x: Array) -> list[Array]:
        """:meth:`member_logits` of each member; ``x`` as for :meth:`answers`."""
        self._check(x)
        return [self.member_logits(place, x) for place in range(len(self.members))]

    def _member_probabilities(self, place: int, x: Array, seconds: Array) -> Array:
        """Calibrated probabilities of a member; its run time is added to its entry of ``seconds``."""
        began = time.perf_counter()
        probabilities = calibrated(self.member_logits(place, x), self.members[place].temperature)
        seconds[place] = time.perf_counter() - began
        return probabilities

    def _part(self, place: int, x: Array) -> Array:
        if x.ndim == 4:
            return x
        preprocessing = self.preprocessings[place]
        form = self._forms.index(_form(preprocessing))
        return x[:, self._ends[form] : self._ends[form + 1]].reshape(len(x), *_shape(preprocessing))

    def _preprocessing_of(self, form: tuple[object, ...]) -> Preprocessing:
        return next(found for found in self.preprocessings if _form(found) == form)

    def _check(self, x: Array) -> None:
        if self._is_closed:
            raise ValueError("the engine is closed")
        shapes = (self.photo_shape, self.crop_shape)
        if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape[1:] not in shapes:
            shape = ", ".join(map(str, self.photo_shape))
            raise ValueError(f"expected uint8 (N, {shape}) photos, got {described(x)}")

    def _open(self) -> Executable:
        self._refuse("is several networks")

    def _refuse(self, why: str) -> NoReturn:
        raise EnsembleError(f"an ensemble {why}; name one of its members")


class Cascade(Ensemble):
    """Networks that run one after the other: the next one only for photos whose answer so far is uncertain.

    The answer for a photo is the weighted mean of the members that ran. Whether the next one runs depends on that mean,
    and on the threshold of the member that ran last.

    Parameters
    ----------
    members : sequence of Member
        The cheapest first; all but the last have a threshold.
    """

    kind = "cascade"

    def _check_threshold(self, place: int, member: Member) -> None:
        if (member.threshold is None) != (place == len(self.members) - 1):
            raise EnsembleError(f"{_called(member, place)}: every member of a cascade but the last needs a threshold")

    def answers(self, x: Array) -> Answers:
        """As for an ensemble; all photos that reach a member run through it in one batch."""
        self._check(x)
        asked = np.zeros(len(x), np.int64)
        seconds = np.zeros(len(self.members))
        probabilities = np.zeros((len(x), 0))
        rows = np.arange(len(x))
        weight = 0.0
        for place, member in enumerate(self.members):
            said = self._member_probabilities(place, x if place == 0 else x[rows], seconds)
            if place == 0:
                probabilities = said
            else:
                mean = probabilities[rows] * weight + said * member.weight
                probabilities[rows] = mean / (weight + member.weight)
            weight += member.weight
            asked[rows] += 1
            if member.threshold is None:
                break
            rows = rows[is_deferred(probabilities[rows], *member.threshold)]
            if not len(rows):
                break
        return Answers(probabilities, asked, seconds)


def load_ensemble(
    path: str | os.PathLike[str], threads: int | None = None, isa: str | None = None, *, tuned: bool, device: str
) -> Ensemble:
    """The ensemble that a TOML file describes; the other parameters are those of each member.

    Raises
    ------
    EnsembleError
        Naming file, field and remedy.
    """
    file = Path(path)
    settings = read_settings(file)
    with ExitStack() as opened:
        members = []
        folders = [_folder(file, place, member) for place, member in enumerate(settings.member)]
        for folder, member in zip(folders, settings.member, strict=True):
            engine = Engine(read_graph(folder), threads, isa, tuned=tuned, device=device)
            opened.callback(engine.close)
            members.append(Member(engine, member.temperature, member.weight, member.threshold, member.model))
        try:
            ensemble = Cascade(members) if settings.kind == "cascade" else Ensemble(members)
        except EnsembleError as error:
            raise EnsembleError(f"{file}: {error}") from None
        opened.pop_all()
    ensemble.folders = tuple(folders)
    return ensemble


def _folder(file: Path, place: int, member: MemberSettings) -> Path:
    """The folder of a member. A folder beside the file takes precedence over a model of that name."""
    beside = file.parent / Path(member.model).expanduser()
    try:
        return beside if beside.is_dir() or is_model_file(beside) else locate(member.model)
    except ModelNotFoundError as error:
        raise EnsembleError(f"{file}: field member.{place}.model: {error}") from None


def _preprocessing(member: Member) -> Preprocessing:
    found = member.engine.graph.preprocessing
    if found is None:
        raise EnsembleError(f"{member.name or member.engine!r}: has no file `preprocessing`, so it takes no photos")
    return found


def _form(preprocessing: Preprocessing) -> tuple[object, ...]:
    """The properties that two members must have in common to read the same crop."""
    fitting = preprocessing.fit, preprocessing.fill, preprocessing.placement, preprocessing.channel_order
    return preprocessing.resize, preprocessing.crop, preprocessing.interpolation, len(preprocessing.mean), fitting


def _shape(preprocessing: Preprocessing) -> tuple[int, ...]:
    return (*preprocessing.crop, len(preprocessing.mean))


def _called(member: Member, place: int) -> str:
    return member.name or f"member {place}"
