"""The gRPC server: procedures, refusals, tokens, TLS."""

from __future__ import annotations

import functools
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from nybble.serve.errors import BadRequestError, FailedError, RefusedError, ServeError, UnauthorizedError
from nybble.serve.logs import AccessLog
from nybble.serve.rpc import inference_pb2 as messages
from nybble.serve.rpc.servicer import Servicer
from nybble.serve.service import Service
from nybble.serve.settings import Settings

_log = logging.getLogger("nybble.serve")
_access = AccessLog()
_OPEN = ("ServerLive", "ServerReady")


async def start_grpc(service: Service, tokens: frozenset[str]) -> tuple[grpc.aio.Server, int]:
    """Start a server and return it and its port.

    Raises
    ------
    ServeError
        Where the port is taken, or the certificate cannot be read.
    """
    settings = service.settings
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", settings.max_body),
            ("grpc.max_send_message_length", -1),
            # Two servers on one port would share its connections.
            ("grpc.so_reuseport", 0),
        ),
        maximum_concurrent_rpcs=settings.connections,
    )
    server.add_generic_rpc_handlers((_handlers(service, tokens),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.grpc_port}"
    try:
        credentials = _credentials(settings)
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise ServeError(f"gRPC cannot listen on {address}: is the port taken? --grpc-port names another") from error
    await server.start()
    return server, port


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.certificate is None or settings.key is None:
        return None
    try:
        pair = (settings.key.read_bytes(), settings.certificate.read_bytes())
    except OSError as error:
        raise ServeError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return grpc.ssl_server_credentials((pair,))


def _handlers(service: Service, tokens: frozenset[str]) -> grpc.GenericRpcHandler:
    servicer, handlers = Servicer(service), {}
    declared = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in declared.methods:
        read = _reader(getattr(messages, method.input_type.name))
        response = getattr(messages, method.output_type.name)
        behaviour = getattr(servicer, method.name)
        wanted = frozenset() if method.name in _OPEN else tokens
        if method.client_streaming:
            make, behaviour = grpc.stream_stream_rpc_method_handler, _guarded_stream(behaviour, wanted)
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, _guarded(behaviour, wanted, service.settings)
        handlers[method.name] = make(behaviour, read, response.SerializeToString)
    return grpc.method_handlers_generic_handler(declared.full_name, handlers)


def _reader(message: Any) -> Callable[[bytes], Any]:
    """Reads a message, or returns the refusal: gRPC would call whatever is raised here unknown."""

    def read(content: bytes) -> Any:
        try:
            return message.FromString(content)
        except DecodeError:
            return BadRequestError(f"the request is no {message.DESCRIPTOR.name}")

    return read


def _readable(request: Any) -> Any:
    """A message as it was read. Raises the refusal where it was none."""
    if isinstance(request, RefusedError):
        raise request
    return request


def _guarded(behaviour: Callable[..., Any], tokens: frozenset[str], settings: Settings) -> Callable[..., Any]:
    """A procedure whose refusals become the status of the call, and which is logged."""

    @functools.wraps(behaviour)
    async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
        began, code = time.monotonic(), "OK"
        try:
            _check(context, tokens)
            return await behaviour(_readable(request), context)
        except RefusedError as error:
            code = error.code
            await _abort(context, error)
        except Exception:
            code = "INTERNAL"
            _log.exception("a call failed", extra={"method": behaviour.__name__})
            await _abort(context, FailedError("the server failed; see its log"))
        finally:
            if settings.access_log:
                seconds = round(time.monotonic() - began, 6)
                _access.note("call", method=behaviour.__name__, code=code, seconds=seconds, client=context.peer())

    return call


def _guarded_stream(behaviour: Callable[..., Any], tokens: frozenset[str]) -> Callable[..., Any]:
    @functools.wraps(behaviour)
    async def call(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        try:
            _check(context, tokens)
            readable = (_readable(request) async for request in requests)
            async for response in behaviour(readable, context):
                yield response
        except RefusedError as error:
            await _abort(context, error)

    return call


async def _abort(context: grpc.aio.ServicerContext, error: RefusedError) -> None:
    metadata = tuple((name, value) for name, value in error.headers().items() if name != "connection")
    await context.abort(grpc.StatusCode[error.code], error.message, metadata)


def _check(context: grpc.aio.ServicerContext, tokens: frozenset[str]) -> None:
    if not tokens:
        return
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            scheme, _, given = value.partition(" ")
            matches = [hmac.compare_digest(given.strip().encode(), token.encode()) for token in tokens]
            if scheme.lower() == "bearer" and any(matches):
                return
    raise UnauthorizedError("this server requires a token: metadata `authorization: Bearer TOKEN`")
