"""The results of the demo, as data: the terminal, the page and ``--json`` show the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nybble.demo.answers import Answer
from nybble.demo.photos import Sample
from nybble.demo.speed import Speed
from nybble.disturbance import warning
from nybble.models import Found

if TYPE_CHECKING:
    from nybble.tasks import Detections


@dataclass(frozen=True)
class Column:
    """A form of a network: ``recorded`` earlier, or run here and now.

    Attributes
    ----------
    key : str
        Of its answers in :attr:`Shown.answers`; each form of each network has its own.
    label : str
    recorded : bool
    how : str
        How it answered.
    bytes : int
        Bytes of its constants.
    """

    key: str
    label: str
    recorded: bool
    how: str
    bytes: int


@dataclass(frozen=True)
class Network:
    """A network or an ensemble that the demo shows, and its forms.

    Attributes
    ----------
    model : Found
    load_seconds : float
    four_bit_share : float or None
        The part of MACs with 4-bit operands; ``None`` for an ensemble.
    judged : bool
        Whether its classes are ImageNet's, so that answers can be right or wrong.
    columns : tuple of Column
        Its forms. The last one is the network itself, which runs here.
    recorded : str or None
        When and by which command answers were recorded.
    remark : str
        A remark, or an empty string.
    """

    model: Found
    load_seconds: float
    four_bit_share: float | None
    judged: bool
    columns: tuple[Column, ...]
    recorded: str | None = None
    remark: str = ""

    @property
    def name(self) -> str:
        """The user's name for it."""
        return self.model.name

    @property
    def live(self) -> Column:
        """The network itself."""
        return self.columns[-1]


@dataclass(frozen=True)
class Detector:
    """A network that draws boxes, and those that it found here and now.

    Attributes
    ----------
    model : Found
    load_seconds : float
    bytes : int
        Bytes of its constants.
    found : dict of str to Detections
        By the file of the photo, the boxes that are shown.
    """

    model: Found
    load_seconds: float
    bytes: int
    found: dict[str, Detections]


@dataclass(frozen=True)
class Shown:
    """A photo and the answers to it, by the key of the column; a recorded form may lack some."""

    sample: Sample
    path: Path
    answers: dict[str, list[Answer]]

    def differs(self, key: str, other: str) -> bool:
        """Whether two forms have different first answers; false where one of them has none."""
        if key not in self.answers or other not in self.answers:
            return False
        return self.answers[key][0].index != self.answers[other][0].index

    def is_right(self, key: str) -> bool | None:
        """Whether the first answer is right; ``None`` where there is none, or no class says what the photo shows."""
        if key not in self.answers or not self.sample.classes:
            return None
        return self.answers[key][0].index in self.sample.classes


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo shows.

    ``disturbance`` is the part of the processors' time which others used while speeds were measured, where it is known.
    """

    made: str
    version: str
    machine: dict[str, Any]
    isa: str
    threads: int
    networks: tuple[Network, ...]
    photos: tuple[Shown, ...]
    speeds: tuple[Speed, ...]
    disturbance: float | None
    notes: tuple[str, ...]
    detectors: tuple[Detector, ...] = ()

    @property
    def has_eight_bit_instructions(self) -> bool:
        """Whether the kernels had VNNI, dot products of 8-bit integers that have no counterpart for 4 bits."""
        return "vnni" in self.isa

    @property
    def warning(self) -> str | None:
        """The warning that precedes the speeds, where other work used too much of the machine."""
        return warning(None if self.disturbance is None else {"others": self.disturbance})

    def right(self, key: str) -> tuple[int, int]:
        """Photos that a form has right, of those it answered whose class is known."""
        verdicts = [verdict for photo in self.photos if (verdict := photo.is_right(key)) is not None]
        return sum(verdicts), len(verdicts)

    def agreement(self, network: Network, key: str) -> tuple[int, int]:
        """Photos on which a form's first answer is that of the network itself, of those that both answered."""
        pairs = [
            (photo.answers[key][0].index, photo.answers[network.live.key][0].index)
            for photo in self.photos
            if key in photo.answers
        ]
        return sum(first == second for first, second in pairs), len(pairs)

    def ratio(self, network: str, batch: int) -> float | None:
        """The speed in 4 bits divided by that in 8 bits, a ratio of medians, if both were measured."""
        speeds = {
            speed.bits: speed.images_per_second
            for speed in self.speeds
            if (speed.network, speed.batch) == (network, batch)
        }
        return speeds["4-bit"] / speeds["8-bit"] if speeds.keys() >= {"4-bit", "8-bit"} else None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "made": self.made,
            "nybble": self.version,
            "machine": self.machine,
            "isa": self.isa,
            "threads": self.threads,
            "networks": [self._network(network) for network in self.networks],
            "detectors": [_detector(detector) for detector in self.detectors],
            "photos": [self._photo(photo) for photo in self.photos],
            "speeds": [asdict(speed) for speed in self.speeds],
            "disturbance": self.disturbance,
            "warning": self.warning,
            "notes": list(self.notes),
        }

    def _network(self, network: Network) -> dict[str, Any]:
        path, name, why = network.model
        others = network.columns[:-1]
        return {
            "model": {"path": str(path), "name": name, "why": why},
            "load_seconds": network.load_seconds,
            "four_bit_share_of_macs": network.four_bit_share,
            "forms": [asdict(column) for column in network.columns],
            "recorded": network.recorded,
            "right": {column.key: list(self.right(column.key)) for column in network.columns}
            if network.judged
            else None,
            "same_class": {column.key: list(self.agreement(network, column.key)) for column in others},
            "remark": network.remark or None,
        }

    def _photo(self, photo: Shown) -> dict[str, Any]:
        judged = {column.key for network in self.networks if network.judged for column in network.columns}
        return {
            "file": photo.sample.file,
            "shows": photo.sample.shows,
            "right_classes": list(photo.sample.classes) if judged else None,
            "answers": {
                key: {
                    "right": photo.is_right(key) if key in judged else None,
                    "predictions": [answer.model_dump() for answer in answers],
                }
                for key, answers in photo.answers.items()
            },
        }


def _detector(detector: Detector) -> dict[str, Any]:
    path, name, why = detector.model
    return {
        "model": {"path": str(path), "name": name, "why": why},
        "load_seconds": detector.load_seconds,
        "bytes": detector.bytes,
        "photos": [{"file": file, **found.to_json()} for file, found in detector.found.items()],
    }
