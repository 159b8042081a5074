"""The settings of a server, from its command line or a TOML file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nybble.graph.reading import is_model_file
from nybble.models import is_ensemble
from nybble.serve.errors import ServeError

#: Valid names of models, which are parts of addresses.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
#: Behind a model's name: the same model, which takes encoded photos.
PHOTOS = ".photos"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MIB = 1 << 20


class ModelSettings(BaseModel):
    """One model.

    Attributes
    ----------
    path : str
        A model folder, a folder of versions (``1``, ``2``, ...), the TOML file of an ensemble, or the name of a model.
    versions : "latest" or "all"
        Which versions of a folder of versions are served.
    batch : int
        Largest number of photos that run together.
    queue : int
        Largest number of photos in progress: those that are decoded, wait, or run.
    """

    model_config = ConfigDict(extra="forbid")

    path: str
    versions: Literal["latest", "all"] = "latest"
    batch: int = Field(8, ge=1, le=1024)
    queue: int = Field(256, ge=1, le=1_000_000)


class Settings(BaseModel):
    """A server; sizes are in bytes, times in seconds.

    Attributes
    ----------
    host : str
        The address to listen on.
    port, grpc_port : int
        0 for any free port; ``grpc_port`` None for no gRPC.
    models : dict
        What is served, by name.
    threads : int or None
        Threads of each engine.
    decoders : int or None
        Threads that decode photos; by default one for each processor.
    timeout : float
        Time limit of requests that do not have their own.
    body_timeout : float
        How long a body may take to arrive.
    max_body, max_bodies : int
        The largest body, inflated or not, and all bodies that are held at a time.
    max_pixels : int
        The largest photo, and all photos that are decoded at a time.
    connections : int
        Requests over REST under way at a time, and over gRPC.
    drain : float
        How long requests under way may take once the server has been told to stop.
    token_file : Path or None
        Tokens, one per line; a request needs one of them.
    certificate, key : Path or None
        PEM files for TLS.
    control : bool or None
        Whether clients may load and unload models. By default only on a loopback address or with tokens.
    log : "text" or "json"
    access_log : bool
        Whether each request is logged.
    """

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    grpc_port: int | None = Field(8001, ge=0, le=65535)
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    threads: int | None = Field(None, ge=1, le=1024)
    decoders: int | None = Field(None, ge=1, le=1024)
    timeout: float = Field(30, gt=0, le=86400)
    body_timeout: float = Field(30, gt=0, le=86400)
    max_body: int = Field(64 * _MIB, ge=1)
    max_bodies: int = Field(256 * _MIB, ge=1)
    max_pixels: int = Field(50_000_000, ge=1, le=89_478_485)
    connections: int = Field(1024, ge=1)
    drain: float = Field(30, ge=0, le=86400)
    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    control: bool | None = None
    log: Literal["text", "json"] = "text"
    access_log: bool = True

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in models:
            if not NAME.fullmatch(name) or name.endswith(PHOTOS):
                raise ValueError(
                    f"a model cannot be called {name[:120]!r}: use letters, digits, _, - and ., not {PHOTOS} at the end"
                )
        return models

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("TLS needs both certificate and key")
        return self

    @property
    def may_control(self) -> bool:
        """Whether clients may load and unload models."""
        return self.control if self.control is not None else self.host in _LOOPBACK or self.token_file is not None


def read_settings(config: Path | None, given: Mapping[str, Any], models: Mapping[str, str]) -> Settings:
    """Settings of a TOML file, and what the command line says instead.

    Parameters
    ----------
    config : Path or None
        The file; relative paths in it are relative to its folder.
    given : mapping
        Fields of :class:`Settings` that replace those of the file.
    models : mapping of str to str
        Paths or names of models, by the name they are served under; added to those of the file.

    Raises
    ------
    ServeError
        Naming file and field.
    """
    values: dict[str, Any] = {} if config is None else _from_file(config)
    values.update(given)
    named = values.setdefault("models", {})
    try:
        if isinstance(named, dict):
            named.update({name: {"path": path} for name, path in models.items()})
        return Settings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        message = str(problem["msg"]).removeprefix("Value error, ")
        raise ServeError(f"{config or 'settings'}: {f'{field}: ' if field else ''}{message}") from None


def _from_file(config: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ServeError(f"{config}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ServeError(f"{config}: is not TOML: {error}") from error
    for field in ("token_file", "certificate", "key"):
        if isinstance(values.get(field), str):
            values[field] = config.parent / values[field]
    models = values.get("models")
    for model in models.values() if isinstance(models, dict) else ():
        path = model.get("path") if isinstance(model, dict) else None
        # If there is no such folder or ensemble beside the file, it is the name of a model.
        if isinstance(path, str) and _is_model(config.parent / path):
            model["path"] = str(config.parent / path)
    return values


def read_tokens(file: Path) -> frozenset[str]:
    """The tokens of a file, one per line; blank lines and those that begin with # are none.

    Raises
    ------
    ServeError
        Where it cannot be read or holds no token.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    tokens = frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not tokens:
        raise ServeError(f"{file}: holds no token; write one per line")
    return tokens


def _is_model(path: Path) -> bool:
    return path.is_dir() or is_ensemble(path) or is_model_file(path)
