"""The refusals of a server: one class per reason, with its HTTP status and its gRPC code."""

from __future__ import annotations

import math
from typing import ClassVar

from nybble.graph import NybbleError


class ServeError(NybbleError):
    """Raised if a server cannot be started with its settings; the text names the option or the file, and the remedy."""


class RefusedError(NybbleError):
    """Base of the refusals of requests.

    Attributes
    ----------
    status : int
        HTTP status.
    code : str
        Name of the gRPC status.
    """

    status: ClassVar[int] = 400
    code: ClassVar[str] = "INVALID_ARGUMENT"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def to_json(self) -> dict[str, object]:
        """The body of the answer."""
        return {"error": self.message}

    def headers(self) -> dict[str, str]:
        """Headers of the answer, trailing metadata under gRPC."""
        return {}


class BadRequestError(RefusedError):
    """An invalid request."""


class BadPhotoError(BadRequestError):
    """A photo that cannot be used; ``index`` is its place in the request."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"photo {index}: {message}")
        self.index = index

    def to_json(self) -> dict[str, object]:
        """The text and the index."""
        return {"error": self.message, "index": self.index}


class UnauthorizedError(RefusedError):
    """A request without a valid token."""

    status, code = 401, "UNAUTHENTICATED"

    def headers(self) -> dict[str, str]:
        """The scheme that is expected."""
        return {"www-authenticate": "Bearer"}


class ForbiddenError(RefusedError):
    """A request that this server does not allow to anybody, or not to that page."""

    status, code = 403, "PERMISSION_DENIED"


class NotFoundError(RefusedError):
    """A model, a version or an address that does not exist."""

    status, code = 404, "NOT_FOUND"


class SlowBodyError(RefusedError):
    """A body that did not arrive in time."""

    status, code = 408, "DEADLINE_EXCEEDED"

    def headers(self) -> dict[str, str]:
        """The rest of the body may still arrive, so the connection cannot be used again."""
        return {"connection": "close"}


class TooLargeError(RefusedError):
    """A request larger than the server takes."""

    status, code = 413, "RESOURCE_EXHAUSTED"


class UnknownMediaError(RefusedError):
    """A body of a type that the server does not read."""

    status = 415


class BusyError(RefusedError):
    """A full queue, or no memory left for bodies: the client may try again after ``seconds``."""

    status, code = 503, "UNAVAILABLE"

    def __init__(self, message: str, seconds: float = 1) -> None:
        super().__init__(message)
        self.seconds = max(1, math.ceil(seconds))

    def headers(self) -> dict[str, str]:
        """When to try again."""
        return {"retry-after": str(self.seconds)}


class ExpiredError(RefusedError):
    """A request whose deadline passed before it was answered."""

    status, code = 504, "DEADLINE_EXCEEDED"


class FailedError(RefusedError):
    """A bug or a failure of the server; its log says more."""

    status, code = 500, "INTERNAL"


class ClientGoneError(RefusedError):
    """A client that closed its connection; nobody reads this."""

    status, code = 499, "CANCELLED"
