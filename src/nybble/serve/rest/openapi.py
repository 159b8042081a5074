"""What OpenAPI says beyond the types of the functions."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from nybble.serve.rest.schemas import ClassifyRequest, Error, IndexRequest, InferRequest


def _refusal(text: str) -> dict[str, Any]:
    return {"model": Error, "description": text}


#: What every address may answer.
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: _refusal("The request makes no sense, or a photo cannot be used."),
    401: _refusal("A token is missing or wrong."),
    403: _refusal("This server does not allow it, or the request is of a page of another site."),
    404: _refusal("There is no such model or version."),
}
#: And what those with a body may.
WITH_BODY: dict[int | str, dict[str, Any]] = {
    408: _refusal("The body did not arrive in time."),
    413: _refusal("The request is larger than this server takes."),
    415: _refusal("The content type or encoding is none that this server reads."),
    503: {
        **_refusal("The queue is full, or the server is not ready."),
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
    504: _refusal("The time was over before the answer was there."),
}
NOT_READY: dict[int | str, dict[str, Any]] = {503: _refusal("Not ready.")}
METRICS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."}
}


def _body(content: dict[str, Any], required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": content}}


def _reference(model: type[Any]) -> dict[str, Any]:
    return {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
INFER = _body({"application/json": _reference(InferRequest), "application/octet-stream": _BINARY})
INDEX = _body({"application/json": _reference(IndexRequest)}, required=False)
CLASSIFY = _body(
    {
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"photos": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                "required": ["photos"],
            }
        },
        "application/json": _reference(ClassifyRequest),
    }
)


def schema(app: FastAPI) -> dict[str, Any]:
    """The document, with the bodies that are read by hand, and without FastAPI's own 422, which is 400 here."""
    if app.openapi_schema is None:
        document: dict[str, Any] = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for model in (InferRequest, IndexRequest, ClassifyRequest):
            own = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(own.pop("$defs", {}))
            schemas[model.__name__] = own
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = document
    found: dict[str, Any] = app.openapi_schema
    return found
