"""Calibrates an ensemble on labelled photos, and estimates its accuracy and cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nybble.engine.engine import Engine
from nybble.engine.ensemble.ensemble import Ensemble, Member
from nybble.engine.ensemble.fit import Outcome, Point, cross_fit, fit_temperature, fit_thresholds
from nybble.engine.ensemble.probabilities import calibrated
from nybble.engine.ensemble.settings import FORMAT, EnsembleError, Kind, Measure, MemberSettings, Settings
from nybble.graph.types import Array
from nybble.images import LeftOut, PhotoFile, batches
from nybble.progress import Progress, silent
from nybble.statistics import Discordance, Share

#: Shares of deferred photos at which the curve of a cascade is drawn.
SHARES = (0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
#: Photos per call, and timed calls of each member.
_BATCH = 8
_ROUNDS = 7


@dataclass(frozen=True)
class Wishes:
    """Options of a calibration.

    Attributes
    ----------
    kind : str
        ``mean`` or ``cascade``.
    measure : str
        ``margin`` or ``entropy``.
    shares : tuple of float
        In a cascade: the shares of the photos that the second member, the third and so on run on. None is larger than
        the one before. Where there are fewer shares than members, each further share is half of the one before.
    folds : int
        Number of folds of the cross-validation.
    exif : bool
        Whether photos are turned upright.
    """

    kind: Kind = "cascade"
    measure: Measure = "margin"
    shares: tuple[float, ...] = (0.16,)
    folds: int = 5
    exif: bool = False

    def shares_of(self, members: int) -> list[float]:
        """A share for every member of a cascade but the first.

        Raises
        ------
        EnsembleError
            If there are more shares than members, or a share is larger than the one before.
        """
        shares = list(self.shares)
        if not 0 < len(shares) < members:
            raise EnsembleError(f"{len(shares)} shares of photos for {members - 1} members behind the first; omit some")
        if sorted(shares, reverse=True) != shares:
            raise EnsembleError(f"the shares of photos, {', '.join(map(str, shares))}, must not increase")
        while len(shares) < members - 1:
            shares.append(shares[-1] / 2)
        return shares


@dataclass(frozen=True)
class Calibrated:
    """The result of a calibration.

    Attributes
    ----------
    settings : Settings
        Parameters found on all photos.
    outcome : Outcome
        Cross-validated answers. The last point is that of the requested share.
    seconds : list of float
        Time of a photo in each member.
    labels : array
        (N,) labels of the photos.
    left_out : LeftOut
    """

    settings: Settings
    outcome: Outcome
    seconds: list[float]
    labels: Array
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def best(self) -> int:
        """Index of the most accurate member; the first of equal ones."""
        return int(np.argmax([right.sum() for right in self.outcome.members]))

    @property
    def right(self) -> Array:
        """(N,) bool: whether the ensemble was right."""
        return self.outcome.points[-1].right if self.settings.kind == "cascade" else self.outcome.mean

    @property
    def against_best(self) -> Discordance:
        """The comparison of the best member with the ensemble."""
        best, right = self.outcome.members[self.best], self.right
        return Discordance(int((best & ~right).sum()), int((right & ~best).sum()), len(right))

    def cost(self, point: Point) -> float:
        """Seconds of a photo in the cascade."""
        shares = point.shares(len(self.seconds))
        return sum(share * taken for share, taken in zip(shares, self.seconds, strict=True))

    def record(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        total = len(self.labels)
        members = [
            {"model": member.model, "temperature": member.temperature, "top1_right": int(right.sum()), "seconds": cost}
            for member, right, cost in zip(self.settings.member, self.outcome.members, self.seconds, strict=True)
        ]
        points = [
            {
                "share": point.share,
                "deferred": int((point.asked > 1).sum()),
                "asked": [int((point.asked > place).sum()) for place in range(len(members))],
                "top1_right": int(point.right.sum()),
                "seconds": self.cost(point),
            }
            for point in self.outcome.points
        ]
        against = self.against_best
        return {
            "kind": self.settings.kind,
            "images": total,
            "members": members,
            "mean": {"top1_right": int(self.outcome.mean.sum()), "seconds": sum(self.seconds)},
            "points": sorted(points[:-1], key=lambda point: point["share"]),
            "chosen": points[-1] if points else None,
            "top1_right": int(self.right.sum()),
            "top1_interval": Share(int(self.right.sum()), total).interval,
            "against_best": {
                "model": self.settings.member[self.best].model,
                "difference": against.difference,
                "interval": against.interval,
                "best_only": against.first_only,
                "ensemble_only": against.second_only,
                "p_value": against.p_value,
            },
        }


def calibrate(
    engines: Sequence[Engine],
    names: Sequence[str],
    photos: Sequence[PhotoFile],
    wishes: Wishes,
    progress: Progress = silent,
) -> Calibrated:
    """Find temperatures and the threshold of a cascade on labelled photos.

    Parameters
    ----------
    engines : sequence of Engine
        The cheapest first.
    names : sequence of str
        Names of the members in the description.
    photos : sequence of PhotoFile
        With labels. Photos that cannot be decoded are left out.
    wishes : Wishes

    Raises
    ------
    EnsembleError
        If there are too few photos, or the members differ in their classes or inputs.
    """
    wanted = wishes.shares_of(len(engines)) if wishes.kind == "cascade" else []
    # Checks that classes agree, and prepares photos for all members at once.
    together = Ensemble([Member(engine, name=name) for engine, name in zip(engines, names, strict=True)])
    left_out = LeftOut()
    logits, labels, samples = _logits(together, photos, wishes.exif, left_out, progress)
    if len(labels) < 2 * wishes.folds:
        raise EnsembleError(f"{len(labels)} photos are too few for {wishes.folds} folds; give at least twice as many")
    temperatures = [fit_temperature(some, labels) for some in logits]
    # The curve keeps the shares' proportions.
    scaled = [[share * each / (wanted[0] or 1.0) for each in wanted] for share in SHARES] if wanted else []
    outcome = cross_fit(logits, labels, wishes.measure, [*scaled, *([wanted] if wanted else [])], wishes.folds)
    said = [calibrated(some, found) for some, found in zip(logits, temperatures, strict=True)]
    field_name = "margin_below" if wishes.measure == "margin" else "entropy_above"
    found = [{field_name: round(value, 6)} for value in fit_thresholds(said, wishes.measure, wanted)]
    thresholds: list[dict[str, float]] = [*found, *({} for _ in engines[len(found) :])]
    members = [
        MemberSettings(model=name, temperature=temperature, **threshold)
        for name, temperature, threshold in zip(names, temperatures, thresholds, strict=True)
    ]
    settings = Settings.model_validate({"format": FORMAT, "kind": wishes.kind, "member": members})
    return Calibrated(settings, outcome, _seconds(together, samples, progress), labels, left_out)


def _logits(
    together: Ensemble, photos: Sequence[PhotoFile], exif: bool, left_out: LeftOut, progress: Progress
) -> tuple[list[Array], Array, Array]:
    """The logits of each member, the labels, and some prepared photos."""
    logits: list[list[Array]] = [[] for _ in together.members]
    labels: list[int] = []
    samples: Array | None = None
    progress("running the members", 0, len(photos))
    for some, entries in batches(photos, together.prepare, batch=4 * _BATCH, exif=exif, left_out=left_out):
        samples = some[:_BATCH] if samples is None else samples
        for place, found in enumerate(together.logits(some)):
            logits[place].append(found)
        labels += [entry.label if entry.label is not None else -1 for entry in entries]
        progress("running the members", len(labels), len(photos))
    left_out.check(len(labels))
    assert samples is not None  # noqa: S101 - LeftOut.check has refused a folder without photos
    return [np.concatenate(found) for found in logits], np.array(labels), samples


def _seconds(together: Ensemble, samples: Array, progress: Progress) -> list[float]:
    """Seconds of a photo in each member: medians of interleaved rounds."""
    times: list[list[float]] = [[] for _ in together.members]
    for done in range(_ROUNDS + 1):
        progress("timing the members", done, _ROUNDS + 1)
        for place, taken in enumerate(times):
            begun = time.perf_counter()
            together.member_logits(place, samples)
            taken.append((time.perf_counter() - begun) / len(samples))
    # The first round warms up.
    return [statistics.median(taken[1:]) for taken in times]
