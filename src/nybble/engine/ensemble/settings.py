"""The TOML file that describes an ensemble: read, checked, written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nybble.backends.errors import EngineError
from nybble.files import TOML, write_text

#: Value of the field ``format``.
FORMAT = "nybble-ensemble/1"
Kind = Literal["mean", "cascade"]
Measure = Literal["margin", "entropy"]
_REMEDY = "see docs/ensembles.md"


class EnsembleError(EngineError):
    """A description of an ensemble that cannot be used; the text names the file, the field and the remedy."""


class MemberSettings(BaseModel):
    """One network of an ensemble.

    Attributes
    ----------
    model : str
        Name of a model, or the path of its folder, relative to the file.
    temperature : float
        Divides the logits before the softmax.
    weight : float
        Weight of the member's probabilities in the mean.
    margin_below, entropy_above : float or None
        In a cascade every member but the last has one of the two. The next member runs if the margin of the two most
        probable classes is smaller than ``margin_below``, or the entropy in nats is larger than ``entropy_above``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(min_length=1)
    temperature: float = Field(default=1.0, gt=0)
    weight: float = Field(default=1.0, gt=0)
    margin_below: float | None = Field(default=None, ge=0, le=1)
    entropy_above: float | None = Field(default=None, ge=0)

    @property
    def threshold(self) -> tuple[Measure, float] | None:
        """The measure and the number that decide whether the next member runs; ``None`` without either."""
        if self.margin_below is not None:
            return "margin", self.margin_below
        return None if self.entropy_above is None else ("entropy", self.entropy_above)


class Settings(BaseModel):
    """The contents of the file of an ensemble.

    Attributes
    ----------
    format : str
    kind : str
        ``mean``: all members run. ``cascade``: they run in order, the next one only if the answer is uncertain.
    member : list of MemberSettings
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["nybble-ensemble/1"]
    kind: Kind
    member: list[MemberSettings] = Field(min_length=2, max_length=16)

    @model_validator(mode="after")
    def _thresholds(self) -> Settings:
        last = len(self.member) - 1
        for place, member in enumerate(self.member):
            given = [name for name in ("margin_below", "entropy_above") if getattr(member, name) is not None]
            if self.kind == "mean" and given:
                raise ValueError(
                    f'member.{place}.{given[0]}: a mean runs all members; remove it, or set kind = "cascade"'
                )
            if self.kind == "cascade" and place == last and given:
                raise ValueError(f"member.{place}.{given[0]}: no member follows the last one; remove it")
            if self.kind == "cascade" and place < last and len(given) != 1:
                raise ValueError(f"member.{place}: give either margin_below or entropy_above")
        return self


def read_settings(path: Path) -> Settings:
    """Read the file of an ensemble.

    Raises
    ------
    EnsembleError
        Naming the file and the error: invalid TOML, an unknown field, a value out of range.
    """
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EnsembleError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EnsembleError(f"{path}: is not TOML: {error}") from error
    if content.get("format") != FORMAT:
        raise EnsembleError(f"{path}: field format: expected format = {FORMAT!r}; {_REMEDY}")
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        why = first["msg"].removeprefix("Value error, ")
        what = f"field {place}: {why[0].lower()}{why[1:]}" if place else f"field {why}"
        raise EnsembleError(f"{path}: {what}; {_REMEDY}") from None


def write_settings(path: Path, settings: Settings, comments: list[str]) -> None:
    """Write the file of an ensemble, ``comments`` before it. Raises :class:`nybble.files.FileError`."""
    lines = [f"# {comment}" if comment else "#" for comment in comments]
    lines += [f"format = {_text(settings.format)}", f"kind = {_text(settings.kind)}"]
    for member in settings.member:
        lines += ["", "[[member]]", f"model = {_text(member.model)}"]
        for name in ("temperature", "weight", "margin_below", "entropy_above"):
            value = getattr(member, name)
            if value is not None:
                lines.append(f"{name} = {value!r}")
    write_text(path, "\n".join(lines) + "\n", TOML)


def _text(value: str) -> str:
    """A basic string of TOML; its escapes are JSON's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
