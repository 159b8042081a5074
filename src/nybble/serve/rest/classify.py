"""``/v1/classify``: photos in, names of classes out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from nybble.serve.rest import openapi
from nybble.serve.rest.asked import asked
from nybble.serve.rest.body import unless_gone
from nybble.serve.rest.models import service_of
from nybble.serve.rest.schemas import ClassifyResponse

router = APIRouter(tags=["classification"], responses=openapi.WITH_BODY)


@router.post("/v1/classify", response_model=ClassifyResponse, openapi_extra=openapi.CLASSIFY)
async def classify(
    request: Request,
    model: Annotated[str, Query(description="By default the first model that is loaded.", max_length=200)] = "",
    top: Annotated[int, Query(ge=1, le=1_000_000, description="Classes of each photo.")] = 5,
    timeout: Annotated[float | None, Query(gt=0, le=86400, description="Seconds.", allow_inf_nan=False)] = None,
    exif: Annotated[bool, Query(description="Turn photos upright as their EXIF orientation says.")] = True,
) -> dict[str, Any]:
    """The likeliest classes of photos, as `nybble classify` names them."""
    service = service_of(request)
    async with asked(request, model, "classify") as (ticket, photos):
        contents = [photo.content for photo in photos]
        found = await unless_gone(request, service.classify(ticket, contents, top, timeout, exif=exif))
        return {
            "model": ticket.served.name,
            "version": ticket.served.version,
            "photos": [
                {
                    "file": photo.file,
                    "predictions": [
                        {"index": index, "name": label, "score": score} for index, label, score in predictions
                    ],
                }
                for photo, predictions in zip(photos, found, strict=True)
            ],
        }
