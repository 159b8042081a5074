"""Inference, past FastAPI's routes and middleware, which take as long as everything else of a small request."""

from __future__ import annotations

import re

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from nybble.serve.rest.models import infer

_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


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
