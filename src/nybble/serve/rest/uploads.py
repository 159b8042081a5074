"""Photos of ``/v1/classify``: one as it is, several in a form, several in JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from nybble.serve.errors import BadPhotoError, BadRequestError, UnknownMediaError
from nybble.serve.rest.infer import parse_json
from nybble.serve.rest.schemas import ClassifyRequest
from nybble.serve.tensors import decode_base64


class Upload(NamedTuple):
    """An encoded photo and its name, if it has one."""

    file: str | None
    content: bytes


async def uploads(body: bytes, headers: Headers, most: int) -> list[Upload]:
    """The photos of a body.

    Parameters
    ----------
    body : bytes
    headers : Headers
    most : int
        Parts of a form that are read.

    Raises
    ------
    UnknownMediaError
        Where the content type is none of those that are read.
    BadRequestError
        Where the body is not of its type or holds no photo.
    """
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media.startswith("image/") or media == "application/octet-stream":
        return [Upload(None, body)]
    if media == "multipart/form-data":
        return await _form(body, headers, most)
    if media == "application/json":
        request = parse_json(ClassifyRequest, body)
        return [Upload(None, _decoded(index, text)) for index, text in enumerate(request.photos)]
    raise UnknownMediaError(
        f"content-type {media[:60]!r}: send image/jpeg, image/png, multipart/form-data or application/json"
    )


def _decoded(index: int, text: str) -> bytes:
    try:
        return decode_base64(text, "")
    except BadRequestError:
        raise BadPhotoError(index, "is not base64") from None


async def _form(body: bytes, headers: Headers, most: int) -> list[Upload]:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(headers, stream(), max_files=most, max_fields=16)
    # The body is in memory already; nothing is gained by files.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise BadRequestError(f"the form cannot be read: {getattr(error, 'message', error)}") from None
    found = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
    photos = [Upload(part.filename or None, await part.read()) for part in found]
    await form.close()
    if not photos:
        raise BadRequestError("the form has no file; send each photo as a part with a filename")
    return photos
