"""The REST application."""

from __future__ import annotations

from importlib import resources
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import HTMLResponse, JSONResponse, Response

import nybble
from nybble.serve.errors import RefusedError
from nybble.serve.rest import classify, models, openapi, predict, repository
from nybble.serve.rest.direct import Direct
from nybble.serve.rest.guard import Guard
from nybble.serve.service import Service

#: The page runs its own script and nothing else, and talks to this server only.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def make_app(service: Service, tokens: frozenset[str]) -> Guard:
    """All addresses of a server, behind the guard."""
    app = FastAPI(
        title="nybble",
        version=nybble.__version__,
        description="Image networks of 4- and 8-bit integers: Open Inference Protocol, /v1/classify and /v1/predict.",
        docs_url=None,  # Both pages load scripts from elsewhere.
        redoc_url=None,
        redirect_slashes=False,  # A redirect would have no body, and an address made of the client's Host header.
        responses=openapi.REFUSALS,
    )
    app.state.service = service
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _wrong_address)
    app.add_exception_handler(500, _failed)
    app.add_exception_handler(404, _wrong_address)
    app.add_exception_handler(405, _wrong_address)
    for router in (models.router, repository.router, classify.router, predict.router):
        app.include_router(router)

    page = (resources.files("nybble.serve") / "page" / "index.html").read_text(encoding="utf-8-sig")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(
            page, headers={"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"}
        )

    @app.get("/metrics", tags=["metrics"], response_class=Response, responses=openapi.METRICS)
    async def metrics() -> Response:
        """Counters and histograms in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type=service.metrics.media_type)

    app.openapi = lambda: openapi.schema(app)
    return Guard(Direct(app), tokens, service)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101
    return JSONResponse(error.to_json(), error.status, error.headers())


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problem: Any = error.errors()[0]
    return JSONResponse({"error": f"{problem['loc'][-1]}: {problem['msg']}"}, 400)


async def _wrong_address(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    detail = "this address takes another method" if status == 405 else "there is nothing at this address"
    return JSONResponse({"error": detail}, status, getattr(error, "headers", None))


async def _failed(request: Request, error: Exception) -> Response:
    # The error goes on to the guard, which logs it.
    return JSONResponse({"error": "the server failed; see its log"}, 500)
