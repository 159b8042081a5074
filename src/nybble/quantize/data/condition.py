"""Defects and unusual properties of photos, which are reported and not fatal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nybble.images.errors import some
from nybble.quantize.errors import QuantizeError

#: Names a report's text lists; ``failed`` has them all.
_LISTED = 5


@dataclass
class PhotoReport:
    """Photos by number, so that a photo counts once even if several workers read it.

    Attributes
    ----------
    read : set of int
        Photos that could be used.
    failed : dict of int to (str, str)
        Name and reason of those that could not: corrupt, truncated, empty.
    gray, cmyk, tiny : dict of int to str
        Names of those that were converted to RGB from grayscale or CMYK, and of those smaller than the crop, which
        were enlarged.
    """

    read: set[int] = field(default_factory=set)
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)
    gray: dict[int, str] = field(default_factory=dict)
    cmyk: dict[int, str] = field(default_factory=dict)
    tiny: dict[int, str] = field(default_factory=dict)

    def note(self, index: int, name: str, kinds: tuple[str, ...], failure: str | None) -> None:
        """Record one photo that was requested."""
        if failure is not None:
            self.failed[index] = (name, failure)
            return
        self.read.add(index)
        for kind in kinds:
            getattr(self, kind)[index] = name

    def raise_if_none(self, where: str) -> None:
        """Raise QuantizeError if photos were requested and none could be used."""
        if self.failed and not self.read:
            name, reason = next(iter(self.failed.values()))
            raise QuantizeError(f"{where}: none of {len(self.failed)} photos could be used; {name}: {reason}")

    def to_dict(self) -> dict[str, Any]:
        """Counts and names, ready for JSON."""
        return {
            "read": len(self.read),
            "failed": [{"name": name, "reason": reason} for name, reason in _ordered(self.failed)],
            **{kind: _ordered(getattr(self, kind)) for kind in ("gray", "cmyk", "tiny")},
        }

    def __str__(self) -> str:
        parts = [f"{len(self.read)} photos"]
        if self.failed:
            names = [f"{name} ({reason})" for name, reason in _ordered(self.failed)]
            parts.append(f"{len(names)} could not be used: {some(names, _LISTED)}")
        for kind, what in (("gray", "grayscale"), ("cmyk", "CMYK"), ("tiny", "smaller than the crop")):
            names = _ordered(getattr(self, kind))
            if names:
                parts.append(f"{len(names)} {what}: {some(names, _LISTED)}")
        return "; ".join(parts)


def _ordered(entries: dict[int, Any]) -> list[Any]:
    return [entries[index] for index in sorted(entries)]
