"""Traces from a click to its intervention, by OpenTelemetry; nobody else imports that.

    producer's trace    ... click (traceparent) -> span "intervention" -> traceparent of the record
    the worker's trace  span "chunk", linked to the clicks -> span "predict" -> the model's server

A click's own trace goes on only where it leads somewhere: to an intervention. What many clicks
share, the chunk and its questions to the model, is a trace of its own, to which the interventions
are linked and which is linked to the clicks (as OpenTelemetry's conventions for batches have it).

Sampling is the producer's: a click without `traceparent` (W3C Trace Context) begins no trace, one
that is not sampled passes its ids on and is not recorded, and a chunk without a sampled decision
point has no span. A chunk that fails is not recorded; it comes again. A `tracestate` that looks
like personal data is left behind, as every tracer may do with it; the trace goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from opentelemetry import context as contexts
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from clickpath import __version__
from clickpath.decision import Decision
from clickpath.wire.personal import kind_of
from stream.batch.records import Chunk, RawRecord
from stream.spans import Headers

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

#: The headers of W3C Trace Context.
_FIELDS: Final = frozenset({"traceparent", "tracestate"})

#: Most clicks that the span of a chunk is linked to.
_LINKS: Final = 128

#: How long the end of a worker waits for the last spans to leave.
_FLUSH_S: Final = 5.0

_w3c: Final = TraceContextTextMapPropagator()


class Tracing:
    """Records spans and hands them to an exporter, from a thread of its own.

    Args:
        exporter: Where spans go.
        group: The consumer group, which every span names.
    """

    def __init__(self, exporter: SpanExporter, group: str) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(root=ALWAYS_ON),
            resource=Resource.create(
                {
                    "service.name": "clickpath",
                    "service.version": __version__,
                    "messaging.consumer.group.name": group,
                }
            ),
            shutdown_on_exit=False,
        )
        # Its queue is bounded: spans for which there is no room are dropped.
        self._processor = BatchSpanProcessor(exporter, export_timeout_millis=_FLUSH_S * 1000)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("clickpath", __version__)

    def chunk(self, chunk: Chunk) -> ChunkSpans:
        """The trace of a chunk that begins now."""
        return ChunkSpans(self._tracer, chunk)

    def close(self) -> None:
        """Hands out what has not left yet; waits for some seconds at most."""
        self._provider.force_flush(int(_FLUSH_S * 1000))
        self._provider.shutdown()


def otlp_tracing(endpoint: str, group: str) -> Tracing:
    """Tracing to a collector that speaks OTLP over HTTP.

    Args:
        endpoint: Its base address, such as http://collector:4318.
        group: The consumer group.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Tracing(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_FLUSH_S), group)


def current_headers() -> Mapping[str, str]:
    """The trace context of the span that is open, as headers of a call to another server."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier


class ChunkSpans:
    """The spans of one chunk; they end together, when its outputs are acknowledged."""

    def __init__(self, tracer: Tracer, chunk: Chunk) -> None:
        self._tracer = tracer
        self._begun_ns = time.time_ns()
        self._attributes = {
            "messaging.system": "kafka",
            "messaging.destination.name": chunk.topic,
            "messaging.destination.partition.id": str(chunk.partition),
        }
        self._records = len(chunk.records)
        self._chunk: Span | None = None
        self._sent: list[Span] = []

    def due(self, causes: Iterable[RawRecord]) -> None:
        """Opens the chunk's span if one of the causes belongs to a sampled trace."""
        links: list[Link] = []
        for cause in causes:
            if cause.headers and (context := _context_of(cause)) is not None:
                span_context = get_current_span(context).get_span_context()
                if span_context.trace_flags.sampled and len(links) < _LINKS:
                    links.append(Link(span_context))
        if links:
            self._chunk = self._tracer.start_span(
                "chunk",
                contexts.Context(),
                SpanKind.CONSUMER,
                {**self._attributes, "messaging.batch.message_count": self._records},
                links,
                self._begun_ns,
            )

    def scoring(self, paths: int) -> AbstractContextManager[None]:
        """A span around one question to the model, open for whoever asks it."""
        return nullcontext() if self._chunk is None else self._predict(self._chunk, paths)

    @contextmanager
    def _predict(self, chunk: Span, paths: int) -> Iterator[None]:
        parent = set_span_in_context(chunk, contexts.Context())
        with self._tracer.start_as_current_span(
            "predict", parent, SpanKind.CLIENT, {"clickpath.paths": paths}
        ):
            yield

    def sent(self, cause: RawRecord, decision: Decision) -> Headers:
        """A span in the trace of the cause, and the headers that carry that trace on."""
        context = _context_of(cause) if cause.headers else None
        if context is None:
            return ()
        assert decision.kind is not None
        span = self._tracer.start_span(
            "intervention",
            context,
            SpanKind.PRODUCER,
            {
                **self._attributes,
                "messaging.kafka.offset": cause.offset,
                "clickpath.intervention_id": decision.decision_id,
                "clickpath.kind": decision.kind,
            },
            () if self._chunk is None else (Link(self._chunk.get_span_context()),),
            self._begun_ns,
        )
        self._sent.append(span)
        carrier: dict[str, str] = {}
        _w3c.inject(carrier, set_span_in_context(span, context))
        return tuple((name, value.encode("ascii")) for name, value in carrier.items())

    def end(self) -> None:
        """Ends all spans of the chunk."""
        for span in self._sent:
            span.end()
        if self._chunk is not None:
            self._chunk.end()


def _context_of(record: RawRecord) -> contexts.Context | None:
    """The trace context in the record's headers; None where there is no valid one."""
    carrier = {
        name: value.decode("latin-1")
        for name, value in record.headers
        if name in _FIELDS and value is not None
    }
    if not carrier:
        return None
    if kind_of(carrier.get("tracestate", "")) is not None:
        del carrier["tracestate"]
    context = _w3c.extract(carrier, contexts.Context())
    return context if get_current_span(context).get_span_context().is_valid else None
