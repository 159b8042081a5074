"""Photos that a request uploads, and the model that it is admitted to: the same for every address under ``/v1``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from nybble.serve.admission import expected_of
from nybble.serve.errors import NotFoundError
from nybble.serve.rest.body import read_body
from nybble.serve.rest.models import service_of
from nybble.serve.rest.uploads import Upload, uploads
from nybble.serve.service import Ticket
from nybble.serve.settings import PHOTOS


@asynccontextmanager
async def asked(request: Request, model: str, protocol: str) -> AsyncIterator[tuple[Ticket, list[Upload]]]:
    """A place at a model, by default the first that is loaded, and the uploaded photos, until they are answered.

    Raises
    ------
    RefusedError
        Where there is no such model or no place, or the body cannot be used.
    """
    service = service_of(request)
    name = model.removesuffix(PHOTOS) or service.first
    if not name:
        raise NotFoundError("no model is loaded")
    expected = expected_of(request.scope)
    with service.admitted(name + PHOTOS, "", protocol, expected) as ticket, service.bodies.held() as held:
        body = await read_body(request, service.settings, held)
        yield ticket, await uploads(body, request.headers, ticket.served.places.limit + 1)
