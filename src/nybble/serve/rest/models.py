"""The Open Inference Protocol: health, metadata, inference; Triton's configuration and statistics."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from nybble.serve.admission import expected_of
from nybble.serve.description import model_config, model_metadata, public_name, server_metadata
from nybble.serve.rest import openapi
from nybble.serve.rest.body import read_body, unless_gone
from nybble.serve.rest.infer import JSON_LENGTH, compose, parse
from nybble.serve.rest.schemas import InferResponse, ModelMetadata, ModelStatistics, ServerMetadata
from nybble.serve.service import Service

#: Bodies of so many bytes are parsed in a thread: others go on meanwhile.
_LONG = 1 << 20

router = APIRouter(tags=["Open Inference Protocol"])


def service_of(request: Request) -> Service:
    """The service of a request's application."""
    service: Service = request.app.state.service
    return service


@router.get("/v2/health/live", responses=openapi.NOT_READY)
async def live() -> dict[str, bool]:
    """Whether the server runs."""
    return {"live": True}


@router.get("/v2/health/ready", responses=openapi.NOT_READY)
async def ready(request: Request) -> Response:
    """Whether all models are loaded and the server is not about to end."""
    is_ready = service_of(request).is_ready
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/v2", response_model=ServerMetadata)
async def metadata() -> dict[str, Any]:
    """Name, version and extensions of the server."""
    return server_metadata()


@router.get("/v2/models/stats", response_model=ModelStatistics)
async def all_statistics(request: Request) -> dict[str, Any]:
    """Counts and times of all models."""
    return {"model_stats": service_of(request).statistics()}


@router.get("/v2/models/{name}", response_model=ModelMetadata)
@router.get("/v2/models/{name}/versions/{version}", response_model=ModelMetadata)
async def one_metadata(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Inputs and outputs of a model."""
    service = service_of(request)
    served, encoded = service.find(name, version)
    return model_metadata(served, encoded, [version] if version else service.repository.versions(served.name))


@router.get("/v2/models/{name}/ready", responses=openapi.NOT_READY)
@router.get("/v2/models/{name}/versions/{version}/ready", responses=openapi.NOT_READY)
async def one_ready(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Whether a model is loaded."""
    service_of(request).find(name, version)
    return {"name": name, "ready": True}


@router.get("/v2/models/{name}/config")
@router.get("/v2/models/{name}/versions/{version}/config")
async def one_config(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """The configuration of a model, as Triton has it."""
    return model_config(*service_of(request).find(name, version))


@router.get("/v2/models/{name}/stats", response_model=ModelStatistics)
@router.get("/v2/models/{name}/versions/{version}/stats", response_model=ModelStatistics)
async def one_statistics(request: Request, name: str, version: str = "") -> dict[str, Any]:
    """Counts and times of a model."""
    return {"model_stats": service_of(request).statistics(name, version)}


_INFER: dict[str, Any] = {
    "response_model": InferResponse,
    "openapi_extra": openapi.INFER,
    "responses": openapi.WITH_BODY,
}


@router.post("/v2/models/{name}/infer", **_INFER)
@router.post("/v2/models/{name}/versions/{version}/infer", **_INFER)
async def infer(request: Request, name: str, version: str = "") -> Response:
    """Inference: photos to logits."""
    service = service_of(request)
    expected = expected_of(request.scope)
    with service.admitted(name, version, "rest", expected) as ticket, service.bodies.held() as held:
        body = await read_body(request, service.settings, held)
        length = request.headers.get(JSON_LENGTH)
        call = await asyncio.to_thread(parse, body, length) if len(body) > _LONG else parse(body, length)
        answer = await unless_gone(request, service.infer(ticket, call))
        content, json_length = compose(ticket.served, public_name(ticket.served, ticket.encoded), call, answer)
    if json_length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={JSON_LENGTH: str(json_length)})
