"""Triton's model repository extension: the index, loading and unloading."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from nybble.serve.rest import openapi
from nybble.serve.rest.body import read_body
from nybble.serve.rest.infer import parse_json
from nybble.serve.rest.models import service_of
from nybble.serve.rest.schemas import IndexEntry, IndexRequest
from nybble.serve.settings import PHOTOS

router = APIRouter(tags=["model repository"], responses=openapi.WITH_BODY)


@router.post("/v2/repository/index", response_model=list[IndexEntry], openapi_extra=openapi.INDEX)
async def index(request: Request) -> list[dict[str, Any]]:
    """Every model and its state."""
    service = service_of(request)
    with service.bodies.held() as held:
        body = await read_body(request, service.settings, held)
        only_ready = parse_json(IndexRequest, body).ready if body else False
    return [state._asdict() for state in service.repository.index() if state.state == "READY" or not only_ready]


@router.post("/v2/repository/models/{name}/load")
async def load(request: Request, name: str) -> Response:
    """Load a model, or load it anew; requests under way are answered by the former one."""
    service = service_of(request)
    service.check_control()
    await service.repository.load(name.removesuffix(PHOTOS))
    return JSONResponse({})


@router.post("/v2/repository/models/{name}/unload")
async def unload(request: Request, name: str) -> Response:
    """Unload a model; requests under way are answered."""
    service = service_of(request)
    service.check_control()
    await service.repository.unload(name.removesuffix(PHOTOS))
    return JSONResponse({})
