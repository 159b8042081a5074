"""Inference without FastAPI's routes and middleware, which take as long as the rest of a small request."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from nybble.serve.rest.models import infer
from nybble.serve.settings import PHOTOS

_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_UPLOADS = ("/v1/classify", "/v1/predict")


class Addressed(NamedTuple):
    """What the address of a request with photos says: the model, in the form that is meant, "" for the first one; its
    version; what the request is counted as; the path.
    """

    model: str
    version: str
    protocol: str
    path: str


@functools.lru_cache(maxsize=256)
def addressed(url: bytes) -> Addressed | None:
    """What an address says; ``None`` where it takes no photos, or is not written in the usual way."""
    path, _, query = url.decode("latin-1").partition("?")
    found = _INFER.fullmatch(path)
    if found is not None:
        return Addressed(found[1], found[2] or "", "rest", path)
    if path not in _UPLOADS or "%" in query:
        return None
    models = [each[len("model=") :] for each in query.split("&") if each.startswith("model=")]
    model = models[-1].removesuffix(PHOTOS) if models else ""
    return Addressed(model and model + PHOTOS, "", path.rpartition("/")[2], path)


class Direct:
    """An ASGI application that answers inference itself, with the same function, and leaves the rest to FastAPI.

    Refusals are raised: the guard around it answers them.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = _INFER.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        response = await infer(Request(scope, receive, send), found[1], found[2] or "")
        await response(scope, receive, send)
