"""The service, independent of the protocol of a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self

import numpy as np

from nybble.engine import Ensemble, Prediction
from nybble.engine.scores import ranked, softmax
from nybble.graph.types import Array
from nybble.serve.admission import Bodies, Expected, Places
from nybble.serve.decoding import Decoder
from nybble.serve.description import input_of, public_name
from nybble.serve.errors import BadRequestError, BusyError, ExpiredError, ForbiddenError, RefusedError
from nybble.serve.metrics import Metrics
from nybble.serve.predicting import Asked, answers, fitting
from nybble.serve.processor import Processor
from nybble.serve.repository import Repository
from nybble.serve.results import LOGITS, unpacked
from nybble.serve.served import Served
from nybble.serve.settings import PHOTOS, Settings
from nybble.serve.statistics import Statistics
from nybble.serve.tensors import InferCall, Wanted, encoded_of, photos_of
from nybble.serve.work import Work

#: Whether a model is addressed with decoded or encoded photos.
_FORMS = (False, True)
_EXPIRED = "the request timed out before its answer was ready"


class Answer(NamedTuple):
    """An inference: the model's version, the outputs that were wanted, and all tensors (N, ...) by name."""

    version: str
    outputs: list[Wanted]
    tensors: dict[str, Array]


class Ticket:
    """An admitted request.

    Attributes
    ----------
    served : Served
    encoded : bool
        Whether the request was addressed to the form that takes encoded photos.
    """

    def __init__(self, served: Served, encoded: bool, expected: Expected | None = None) -> None:
        self.served = served
        self.encoded = encoded
        self.arrived = time.monotonic()
        self.photos = 0
        self.decoding = self.waiting = self.running = 0.0
        self._places: Places = served.places
        self._taken = 0
        self._expected = expected

    def check(self) -> None:
        """Raise :class:`BusyError` where there is no place. A body that arrives slowly takes none."""
        self._places.check(1, self.served.lane.seconds)

    def take(self, photos: int) -> None:
        """Take a place for each photo, once. Raises as :meth:`Places.take`."""
        if self._expected is not None:
            self._expected.end()
        self._places.take(photos, self.served.lane.seconds)
        self._taken = photos
        self.served.admitted.inc(photos)

    def close(self) -> None:
        """Give all places back."""
        if self._taken:
            self._places.give_back(self._taken)
            self.served.admitted.dec(self._taken)
            self._taken = 0


class Service:
    """Models, the thread that runs them, and the threads that decode."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.bodies = Bodies(settings.max_bodies)
        self.is_draining = False
        self._decoder = Decoder(settings.decoders, settings.max_pixels)
        self._processor = Processor(self.metrics, asyncio.get_running_loop())
        self.repository = Repository(settings.models, settings.threads, self._processor, self.metrics)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.repository.close()
        await asyncio.to_thread(self._processor.stop)
        self._decoder.close()

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return not self.is_draining and self.repository.is_ready

    @property
    def first(self) -> str:
        """The model for requests that name none; "" if none is loaded."""
        return next(iter(self.repository.names()), "")

    def find(self, name: str, version: str = "") -> tuple[Served, bool]:
        """A loaded model, and whether it was named in the form that takes photos. Raises :class:`NotFoundError`."""
        encoded = name.endswith(PHOTOS)
        return self.repository.get(name.removesuffix(PHOTOS), version), encoded

    def named(self, name: str, version: str) -> tuple[Served, bool]:
        """As :meth:`find`; the first model, for encoded photos, where none is named."""
        return self.find(name or self.first + PHOTOS, version)

    def refusal(self, name: str, version: str, protocol: str) -> BusyError | None:
        """The refusal of a request before its body is read, which is counted; ``None`` if the request is admitted.

        Raises
        ------
        NotFoundError
            Where there is no such model, or none is named and none is loaded.
        """
        served, encoded = self.named(name, version)
        if not served.places.is_full:
            return None
        error = served.places.why(served.lane.seconds)
        self._count(served, encoded, error.code, protocol, 0.0).fail.add(0.0)
        return error

    @contextmanager
    def admitted(self, name: str, version: str, protocol: str, expected: Expected | None = None) -> Iterator[Ticket]:
        """Admit a request before its body is read. It then takes places, and is counted when it ends.

        Raises
        ------
        NotFoundError
            Where there is no such model.
        BusyError
            Where its queue is full.
        """
        served, encoded = self.find(name, version)
        ticket = Ticket(served, encoded, expected)
        code = "INTERNAL"
        served.enter()
        try:
            ticket.check()
            yield ticket
            code = "OK"
        except RefusedError as error:
            code = error.code
            raise
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        finally:
            ticket.close()
            served.leave()
            seconds = time.monotonic() - ticket.arrived
            statistics = self._count(served, encoded, code, protocol, seconds)
            if code == "OK":
                statistics.succeeded(ticket.photos, seconds, ticket.decoding, ticket.waiting, ticket.running)
            else:
                statistics.fail.add(seconds)

    async def infer(self, ticket: Ticket, call: InferCall) -> Answer:
        """Answer a request of the Open Inference Protocol.

        Raises
        ------
        RefusedError
            As the protocols word it.
        """
        served, expected = ticket.served, input_of(ticket.encoded)
        if [tensor.name for tensor in call.inputs] != [expected]:
            raise BadRequestError(f"model {public_name(served, ticket.encoded)!r} has one input, {expected!r}")
        _check_outputs(served, call.outputs)
        deadline = self._deadline(ticket, call.timeout)
        if ticket.encoded:
            encoded = encoded_of(call.inputs[0])
            ticket.take(len(encoded))
            values = await self._encoded(ticket, encoded, deadline, exif=True)
        else:
            photos = photos_of(call.inputs[0], served.tensor_shape)
            ticket.take(len(photos))
            values = await self._run(ticket, photos, deadline)
        tensors = {LOGITS: values} if served.classifies else unpacked(values, served.outputs)
        wanted = call.outputs or [Wanted(name, is_binary=call.is_binary) for name in tensors]
        return Answer(served.version, wanted, tensors)

    async def classify(
        self, ticket: Ticket, photos: Sequence[bytes], top: int, timeout: float | None, *, exif: bool
    ) -> list[list[Prediction]]:
        """The likeliest classes of each photo, best first, as :meth:`nybble.Engine.classify` gives them.

        Raises
        ------
        RefusedError
            As the protocols word it; where the model does not classify, too.
        """
        if not ticket.served.classifies:
            raise BadRequestError(
                f"model {ticket.served.name!r} does not classify; POST /v1/predict returns its results"
            )
        ticket.take(len(photos))
        logits = await self._encoded(ticket, photos, self._deadline(ticket, timeout), exif=exif)
        names = ticket.served.class_names
        probabilities = softmax(logits)
        return [
            [Prediction(int(i), names[i], float(scores[i])) for i in best]
            for scores, best in zip(probabilities, ranked(probabilities, top), strict=True)
        ]

    async def predict(
        self, ticket: Ticket, photos: Sequence[bytes], how: Asked, timeout: float | None, *, exif: bool
    ) -> list[dict[str, Any]]:
        """The network's answer for each photo, by its task.

        Returns
        -------
        list of dict
            As ``nybble predict --json`` has it, without the name of the photo.

        Raises
        ------
        RefusedError
            As the protocols word it; where the model has no task, too.
        """
        served = ticket.served
        if served.task is None or isinstance(served.engine, Ensemble):
            raise BadRequestError(
                f"model {served.name!r} has no task that says what its outputs mean; "
                f"POST /v2/models/{served.name}/infer returns them"
            )
        ticket.take(len(photos))
        began = time.monotonic()
        deadline = self._deadline(ticket, timeout)
        async with _until(deadline):
            fitted = await self._decoder.decode(photos, fitting(served.engine.graph), exif=exif)
            self._decoded(ticket, began)
            samples = [each.samples for each in fitted]
            values = await self._run(ticket, np.stack(samples), deadline)
            return await asyncio.to_thread(answers, served, fitted, values, how)

    def statistics(self, name: str = "", version: str = "") -> list[dict[str, Any]]:
        """Counts and times of a model, or of all in both forms. Raises :class:`NotFoundError`."""
        found = (
            [self.find(name, version)] if name else [(each, form) for each in self.repository.all() for form in _FORMS]
        )
        return [each.statistics[form].to_json(public_name(each, form), each.version) for each, form in found]

    def check_control(self) -> None:
        """Raise :class:`ForbiddenError` where clients may not load and unload models."""
        if not self.settings.may_control:
            raise ForbiddenError("this server does not let clients load and unload models; start it with --control")

    def _deadline(self, ticket: Ticket, timeout: float | None) -> float:
        """When the request's time is over, counted from its arrival; the server's own limit stays."""
        return ticket.arrived + min(timeout or self.settings.timeout, self.settings.timeout)

    async def _encoded(self, ticket: Ticket, encoded: Sequence[bytes], deadline: float, *, exif: bool) -> Array:
        """The lane's results for encoded photos."""
        began = time.monotonic()
        async with _until(deadline):
            photos = await self._decoder.decode(encoded, ticket.served.engine.prepare, exif=exif)
            self._decoded(ticket, began)
            return await self._run(ticket, np.stack(photos), deadline)

    def _decoded(self, ticket: Ticket, began: float) -> None:
        ticket.decoding = time.monotonic() - began
        self.metrics.stages.labels(ticket.served.name, "decode").observe(ticket.decoding)

    async def _run(self, ticket: Ticket, photos: Array, deadline: float) -> Array:
        """What the lane answers for decoded photos, in pieces of a batch. Dropped where the caller is cancelled.

        Raises
        ------
        ExpiredError
            Where that takes longer than until the deadline.
        """
        loop, lane = asyncio.get_running_loop(), ticket.served.lane
        pieces = [
            Work(photos[first : first + lane.limit], deadline, loop.create_future())
            for first in range(0, len(photos), lane.limit)
        ]
        # Cheaper than asyncio.timeout, which every small request would pay for.
        timer = loop.call_later(max(0.0, deadline - time.monotonic()), _expire, pieces)
        try:
            for piece in pieces:
                self._processor.submit(lane, piece)
            logits = [await piece.answer for piece in pieces]
        finally:
            timer.cancel()
            for piece in pieces:
                if not piece.answer.done() or piece.answer.cancelled():
                    piece.is_dropped = True
                elif piece.answer.exception() is not None:
                    pass  # asyncio logs the exception of a future that is never awaited, unless it is retrieved.
        ticket.photos = len(photos)
        ticket.waiting = pieces[0].started - pieces[0].queued
        ticket.running = sum(piece.ended - piece.started for piece in pieces)
        return logits[0] if len(logits) == 1 else _joined(logits)

    def _count(self, served: Served, encoded: bool, code: str, protocol: str, seconds: float) -> Statistics:
        """Count a request, but for the statistics."""
        self.metrics.note_request(public_name(served, encoded), protocol, code, seconds)
        return served.statistics[encoded]


def _expire(pieces: Sequence[Work]) -> None:
    for piece in pieces:
        if not piece.answer.done():
            piece.answer.set_exception(ExpiredError(_EXPIRED))


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Raise :class:`ExpiredError` where the block takes longer."""
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            yield
    except TimeoutError:
        raise ExpiredError(_EXPIRED) from None


def _check_outputs(served: Served, wanted: Sequence[Wanted]) -> None:
    names = [output.name for output in served.outputs]
    for output in wanted:
        if output.name not in names:
            known = ", ".join(map(repr, names))
            raise BadRequestError(f"there is no output {output.name[:100]!r}; this model has {known}")
        if output.classes and not served.classifies:
            raise BadRequestError(f"{output.name}: model {served.name!r} does not classify")


def _joined(logits: list[Array]) -> Array:
    joined: Array = np.concatenate(logits)
    return joined
