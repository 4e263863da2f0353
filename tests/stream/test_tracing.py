"""A click's trace goes on to its intervention, where it is sampled, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.policy_file import default_policy
from clickpath.scores import Scores
from clickpath.window import Window
from clickpath.wire import click_to_json
from serving.fake import FakePredictor
from stream.batch.records import Chunk, OutputRecord, RawRecord
from stream.handler import Handler
from stream.topics import Topics
from stream.tracing import Tracing, current_headers

CLICKS = [click_to_json(click) for click in simulation.simulate(1_500, 30, seed=5)]
NOW_MS = simulation.START_MS + 365 * 86_400_000
SAMPLED, UNSAMPLED = "01", "00"


class Asked(FakePredictor):
    """A predictor that keeps the trace context in which it was asked."""

    def __init__(self) -> None:
        super().__init__(Encoder(Window()))
        self.contexts: list[str | None] = []

    async def predict(self, paths, deadline_s, *, keys=None) -> Sequence[Scores]:  # type: ignore[no-untyped-def]
        self.contexts.append(current_headers().get("traceparent"))
        return await super().predict(paths, deadline_s, keys=keys)


class Run:
    """One chunk of clicks through a handler, traced into memory."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(self.exporter, "group")
        self.predictor = Asked()
        self.handler = Handler(
            encoder=Encoder(Window()),
            policy=default_policy(),
            predictor=self.predictor,
            topics=Topics(),
            deadline_s=60,
            max_future_ms=86_400_000,
        )

    async def feed(self, flags: str | None, beside: str = "shop=1") -> list[OutputRecord]:
        """Handles all clicks, each in a trace of its own with these flags; gives interventions."""
        records = [
            RawRecord(n, n, b"k", value, headers_of(n, flags, beside))
            for n, value in enumerate(CLICKS)
        ]
        chunk = Chunk("clicks", 3, records)
        trace = self.tracing.chunk(chunk)
        outcome = await self.handler.handle(chunk, {}, NOW_MS, trace)
        trace.end()
        self.tracing.close()
        return [each for each in outcome.outputs if each.topic.startswith("interventions.")]

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


def trace_id(n: int) -> str:
    return f"{n + 1:032x}"


def headers_of(n: int, flags: str | None, beside: str) -> tuple[tuple[str, bytes], ...]:
    if flags is None:
        return ()
    traceparent = f"00-{trace_id(n)}-00f067aa0ba902b7-{flags}"
    return (("traceparent", traceparent.encode()), ("tracestate", beside.encode()))


def header(record: OutputRecord, name: str) -> str:
    return (dict(record.headers)[name] or b"").decode()


@pytest.fixture
def run() -> Run:
    return Run()


async def test_an_intervention_carries_the_trace_of_its_cause_on(run: Run) -> None:
    interventions = await run.feed(SAMPLED)
    spans = run.spans("intervention")

    assert len(interventions) == len(spans) > 5
    offset_of = {json.loads(value)["event_id"]: n for n, value in enumerate(CLICKS)}
    for record, span in zip(interventions, spans, strict=True):
        content = json.loads(record.value or b"")
        cause = offset_of[content["cause"]["event_id"]]
        assert span.context is not None
        assert span.parent is not None
        assert f"{span.context.trace_id:032x}" == trace_id(cause)
        assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
        expected = f"00-{trace_id(cause)}-{span.context.span_id:016x}-01"
        assert header(record, "traceparent") == expected
        assert header(record, "tracestate") == "shop=1"
        assert span.attributes is not None
        assert span.attributes["clickpath.intervention_id"] == content["intervention_id"]


async def test_a_chunk_is_one_span_linked_to_its_clicks_and_around_its_questions(run: Run) -> None:
    await run.feed(SAMPLED)

    (chunk,) = run.spans("chunk")
    assert chunk.parent is None
    assert chunk.context is not None
    assert chunk.attributes is not None
    assert chunk.attributes["messaging.batch.message_count"] == len(CLICKS)
    clicks = {f"{link.context.trace_id:032x}" for link in chunk.links}
    assert 0 < len(clicks) <= 128
    assert clicks <= {trace_id(n) for n in range(len(CLICKS))}
    predictions = run.spans("predict")
    assert len(predictions) == len(run.predictor.contexts) > 0
    for span, seen in zip(predictions, run.predictor.contexts, strict=True):
        assert span.parent == chunk.context
        assert span.context is not None
        # What a client in the predictor would send on to the model's server.
        assert seen is not None
        assert seen[:53] == f"00-{chunk.context.trace_id:032x}-{span.context.span_id:016x}-"
        assert int(seen[53:], 16) & 1
    for span in run.spans("intervention"):
        assert [link.context for link in span.links] == [chunk.context]


async def test_a_trace_that_is_not_sampled_goes_on_and_is_not_recorded(run: Run) -> None:
    interventions = await run.feed(UNSAMPLED)

    assert interventions
    assert run.exporter.get_finished_spans() == ()
    assert {header(each, "traceparent")[-2:] for each in interventions} == {"00"}
    assert {header(each, "traceparent")[3:35] for each in interventions} <= {
        trace_id(n) for n in range(len(CLICKS))
    }
    assert set(run.predictor.contexts) == {None}


async def test_a_click_without_a_trace_begins_none(run: Run) -> None:
    interventions = await run.feed(None)

    assert interventions
    assert run.exporter.get_finished_spans() == ()
    assert {name for each in interventions for name, _ in each.headers} == {
        "clickpath-cause-timestamp-ms"
    }


@pytest.mark.parametrize(
    "traceparent",
    [b"", b"00", b"\xff\xfe", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", b"x" * 10_000, None],
)
async def test_a_header_that_is_no_trace_context_is_passed_over(
    run: Run, traceparent: bytes | None
) -> None:
    offsets = count()
    records = [
        RawRecord(next(offsets), 0, b"k", value, (("traceparent", traceparent),))
        for value in CLICKS
    ]
    chunk = Chunk("clicks", 0, records)
    trace = run.tracing.chunk(chunk)
    outcome = await run.handler.handle(chunk, {}, NOW_MS, trace)
    trace.end()
    run.tracing.close()

    assert run.exporter.get_finished_spans() == ()
    assert sum(outcome.tally.interventions.values()) > 0


async def test_tracing_changes_no_decision_and_no_intervention(run: Run) -> None:
    traced = await run.feed(SAMPLED)
    plain = await Run().feed(None)

    assert [(each.topic, each.key, each.value) for each in traced] == [
        (each.topic, each.key, each.value) for each in plain
    ]


async def test_no_span_names_a_user(run: Run) -> None:
    await run.feed(SAMPLED)

    users = {json.loads(value)["user_id"] for value in CLICKS}
    said = " ".join(span.to_json() for span in run.exporter.get_finished_spans())
    assert "intervention" in said
    assert [user for user in users if user in said] == []


@pytest.mark.parametrize("beside", ["shop=jan@example.com", "a=1,shop=+49 170 9876543"])
async def test_what_looks_like_personal_data_beside_a_trace_is_left_behind(
    run: Run, beside: str
) -> None:
    interventions = await run.feed(SAMPLED, beside)

    assert len(interventions) == len(run.spans("intervention")) > 5
    assert all(header(each, "traceparent").endswith("-01") for each in interventions)
    assert not any("tracestate" in dict(each.headers) for each in interventions)
    spans = run.exporter.get_finished_spans()
    told = [each.context for span in spans for each in (span, *span.links) if each.context]
    assert {dict(each.trace_state).get("shop") for each in told} == {None}
