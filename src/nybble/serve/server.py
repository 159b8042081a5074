"""A server from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import uvicorn

from nybble.serve.errors import RefusedError, ServeError
from nybble.serve.logs import start_logging
from nybble.serve.rest import make_app
from nybble.serve.rest.protocol import Protocol
from nybble.serve.rpc import start_grpc
from nybble.serve.service import Service
from nybble.serve.settings import Settings, read_tokens

_log = logging.getLogger("nybble.serve")

#: Seconds after which Python lets another thread go on that wants to. While requests are refused the loop's thread
#: always runs, and by default, 5 ms, a thread that has run a batch would wait for it for nearly as long as that took.
_SWITCH = 0.0005


class Address(NamedTuple):
    """Where a server listens; ``grpc_port`` is None without gRPC."""

    host: str
    port: int
    grpc_port: int | None
    models: tuple[str, ...]


class _Uvicorn(uvicorn.Server):
    """uvicorn, whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings, told: Callable[[Address], None]) -> signal.Signals:
    """Serve until SIGTERM or SIGINT, then answer the requests under way.

    Parameters
    ----------
    settings : Settings
    told : callable
        Called with the address once the server is ready.

    Returns
    -------
    signal.Signals
        The signal that ended it.

    Raises
    ------
    ServeError
        Where a port is taken, a file cannot be read, or a model cannot be loaded.
    """
    if not settings.models:
        raise ServeError("there is no model to serve; name one")
    sys.setswitchinterval(_SWITCH)
    start_logging(settings.log)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(settings, told))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return]


async def _serve(settings: Settings, told: Callable[[Address], None]) -> signal.Signals:
    tokens = read_tokens(settings.token_file) if settings.token_file else frozenset()
    _check_certificate(settings)
    ended: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
    _watch_signals(ended)
    with _listening(settings) as listener:
        async with Service(settings) as service:
            await _load(service)
            # The objects that exist now stay: garbage collections, which every request makes likelier, need not visit
            # them.
            gc.collect()
            gc.freeze()
            grpc_server, grpc_port = None, None
            if settings.grpc_port is not None:
                grpc_server, grpc_port = await start_grpc(service, tokens)
            rest = _Uvicorn(_configuration(settings, service, tokens))
            serving = asyncio.create_task(rest.serve(sockets=[listener]))
            while not rest.started and not serving.done():
                await asyncio.sleep(0.01)
            address = Address(settings.host, listener.getsockname()[1], grpc_port, tuple(settings.models))
            told(address)
            _log.info("ready", extra=address._asdict())
            await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
            service.is_draining = True
            rest.should_exit = True
            _log.info("draining", extra={"seconds": settings.drain})
            stopping = [serving]
            if grpc_server is not None:
                stopping.append(asyncio.ensure_future(grpc_server.stop(settings.drain)))
            await asyncio.gather(*stopping)
    _log.info("stopped")
    return ended.result() if ended.done() else signal.SIGTERM


async def _load(service: Service) -> None:
    for name in service.settings.models:
        try:
            await service.repository.load(name)
        except RefusedError as error:
            raise ServeError(error.message) from error


def _configuration(settings: Settings, service: Service, tokens: frozenset[str]) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(service, tokens),
        http=Protocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain),
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )


def _watch_signals(ended: asyncio.Future[signal.Signals]) -> None:
    """Note the first signal; the second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def note(number: signal.Signals) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        if not ended.done():
            ended.set_result(number)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, note, each)


def _check_certificate(settings: Settings) -> None:
    if settings.certificate is None or settings.key is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.certificate, settings.key)
    except OSError as error:  # Errors of ssl are OSErrors too.
        raise ServeError(f"{settings.certificate}, {settings.key}: {error.strerror or error}") from error


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        raise ServeError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}; --port names another"
        ) from error
    with listener:
        yield listener
