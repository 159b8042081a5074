"""``/v1/predict``: photos in, the network's answers by its task out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from nybble.serve.predicting import Asked
from nybble.serve.rest import openapi
from nybble.serve.rest.asked import asked
from nybble.serve.rest.body import unless_gone
from nybble.serve.rest.models import service_of
from nybble.serve.rest.schemas import PredictResponse

router = APIRouter(tags=["prediction"], responses=openapi.WITH_BODY)


@router.post("/v1/predict", response_model=PredictResponse, openapi_extra=openapi.CLASSIFY)
async def predict(
    request: Request,
    model: Annotated[str, Query(description="By default the first model that is loaded.", max_length=200)] = "",
    score: Annotated[
        float | None,
        Query(ge=0, le=1, description="Least score of a box; by default the model's.", allow_inf_nan=False),
    ] = None,
    top: Annotated[int, Query(ge=1, le=1_000_000, description="Classes of a model that classifies.")] = 5,
    images: Annotated[
        bool, Query(description="Add the mask of a segmentation or the restored image: `image`, PNG in base64.")
    ] = False,
    timeout: Annotated[float | None, Query(gt=0, le=86400, description="Seconds.", allow_inf_nan=False)] = None,
    exif: Annotated[bool, Query(description="Turn photos upright as their EXIF orientation says.")] = True,
) -> dict[str, Any]:
    """Answers of a network of any task for photos, in the form of `nybble predict --json`."""
    service = service_of(request)
    async with asked(request, model, "predict") as (ticket, photos):
        contents = [photo.content for photo in photos]
        how = Asked(score, top, images)
        found = await unless_gone(request, service.predict(ticket, contents, how, timeout, exif=exif))
        task = ticket.served.task
        return {
            "model": ticket.served.name,
            "version": ticket.served.version,
            "task": "" if task is None else task.kind,
            "photos": [{"file": photo.file, **each} for photo, each in zip(photos, found, strict=True)],
        }
