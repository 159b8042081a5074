"""The metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

#: Seconds, from a millisecond to ten.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class _Batch(NamedTuple):
    """What counts the batches of a model that leave for a reason."""

    count: Counter
    size: Histogram
    photos: Counter
    run: Histogram
    queue: Histogram


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        # Looking up labels takes longer than counting.
        self._outcomes: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._batches: dict[tuple[str, str], _Batch] = {}
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "nybble_requests", "Requests for a model, by outcome.", ("model", "protocol", "code"), registry=registry
        )
        self.photos = Counter("nybble_photos", "Photos that went through the network.", ("model",), registry=registry)
        self.members = Counter(
            "nybble_member_photos",
            "Photos that a member of an ensemble was asked about.",
            ("model", "member"),
            registry=registry,
        )
        self.seconds = Histogram(
            "nybble_request_seconds",
            "From a request's arrival to its answer.",
            ("model", "protocol"),
            registry=registry,
            buckets=_BUCKETS,
        )
        self.stages = Histogram(
            "nybble_stage_seconds",
            "Waiting for the engine (queue), decoding a photo (decode), running a batch (run).",
            ("model", "stage"),
            registry=registry,
            buckets=_BUCKETS,
        )
        self.batches = Counter(
            "nybble_batches",
            "Batches, by why they left: full, engine_free, deadline.",
            ("model", "reason"),
            registry=registry,
        )
        self.batch_photos = Histogram(
            "nybble_batch_photos", "Photos of a batch.", ("model",), registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.dropped = Counter(
            "nybble_dropped",
            "Work that was dropped before it ran: expired, or its client gone.",
            ("model", "reason"),
            registry=registry,
        )
        self.queued = Gauge("nybble_queue_photos", "Photos that wait for the engine.", ("model",), registry=registry)
        self.admitted = Gauge(
            "nybble_admitted_photos",
            "Photos of requests under way; the queue's bound is of these.",
            ("model",),
            registry=registry,
        )

    def note_request(self, model: str, protocol: str, code: str, seconds: float) -> None:
        """Count a request and its time."""
        outcome = (model, protocol, code)
        found = self._outcomes.get(outcome)
        if found is None:
            found = self._outcomes[outcome] = self.requests.labels(*outcome), self.seconds.labels(model, protocol)
        counter, histogram = found
        counter.inc()
        histogram.observe(seconds)

    def note_batch(self, model: str, reason: str, photos: int, seconds: float, waits: Sequence[float]) -> None:
        """Count a batch, how long it ran, and how long each request in it waited."""
        found = self._batches.get((model, reason))
        if found is None:
            found = self._batches[model, reason] = _Batch(
                self.batches.labels(model, reason),
                self.batch_photos.labels(model),
                self.photos.labels(model),
                self.stages.labels(model, "run"),
                self.stages.labels(model, "queue"),
            )
        found.count.inc()
        found.size.observe(photos)
        found.photos.inc(photos)
        found.run.observe(seconds)
        for wait in waits:
            found.queue.observe(wait)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        text: bytes = generate_latest(self._registry)
        return text

    #: The media type of :meth:`text`.
    media_type = CONTENT_TYPE_PLAIN_0_0_4
