"""A worker that is watched: its traces reach a collector, its log names nobody."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from clickpath import simulation
from clickpath.logs import RawLine
from clickpath.simulation.faults import with_broken
from clickpath.wire import click_to_json
from tests.promises.collector import Collector

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CLICKS = [
    replace(click, user_id=f"jane-doe-{click.user_id}", event_id=f"secret-{click.event_id}")
    for click in simulation.simulate(3_000, 60, seed=17)
]


def traced(n: int, value: bytes, user_id: str) -> RawLine:
    """A click in a trace of its own, of which every other one is sampled."""
    traceparent = f"00-{n + 1:032x}-00f067aa0ba902b7-{n % 2:02x}"
    return RawLine(user_id.encode(), value, (("traceparent", traceparent.encode()),), "")


async def test_traces_of_sampled_clicks_reach_the_collector_and_go_on_in_the_interventions(
    make_shop, running, collector: Collector
) -> None:
    shop = await make_shop(otlp_endpoint=collector.address)
    worker = await running(shop)
    await shop.produce(
        [traced(n, click_to_json(click), click.user_id) for n, click in enumerate(CLICKS)]
    )
    await shop.handled(worker)
    assert await worker.stop() == 0

    place = {click.event_id: n for n, click in enumerate(CLICKS)}
    sampled = 0
    interventions = await shop.interventions()
    assert len(interventions) > 20
    for (record,) in interventions.values():
        cause = place[json.loads(record.value)["cause"]["event_id"]]
        _, trace_id, span_id, flags = dict(record.headers)["traceparent"].decode().split("-")
        assert trace_id == f"{cause + 1:032x}"
        assert int(flags, 16) & 1 == cause % 2
        if cause % 2:
            assert collector.spans[span_id] == ("intervention", trace_id)
            sampled += 1
        else:
            assert span_id not in collector.spans
    names = [name for name, _ in collector.spans.values()]
    assert names.count("intervention") == sampled > 5
    assert {"chunk", "predict"} <= set(names)


async def test_a_collector_that_does_not_answer_disturbs_nobody(make_shop, running) -> None:
    shop = await make_shop(otlp_endpoint="http://127.0.0.1:9", model="none")
    worker = await running(shop)
    await shop.produce([traced(1, click_to_json(click), click.user_id) for click in CLICKS])
    await shop.handled(worker)
    assert await worker.stop() == 0
    assert await shop.interventions()


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_a_log_names_no_user_and_quotes_no_event(make_shop, running, log_format) -> None:
    shop = await make_shop(log_format=log_format, log_level="DEBUG", model="none")
    values = [click_to_json(click) for click in CLICKS]
    broken = [each.value for each in with_broken(values, 0.05, 3)]
    # Behind the lateness bound, and twice.
    late = [
        replace(click, ts_ms=click.ts_ms - 10**9, event_id=f"late-{n}")
        for n, click in enumerate(CLICKS[-200:])
    ]
    worker = await running(shop)
    await shop.produce(
        [
            RawLine(click.user_id.encode(), value, (), "")
            for click, value in zip(CLICKS, broken, strict=True)
        ]
        + [RawLine(click.user_id.encode(), click_to_json(click), (), "") for click in late]
    )
    await shop.handled(worker)
    assert await worker.stop() == 0

    assert await shop.on(shop.settings.dead_letter_topic)
    assert await shop.on(shop.settings.late_topic)
    lines = shop.log().splitlines()
    assert any("stopped" in line for line in lines)
    if log_format == "json":
        for line in lines:
            assert {"time", "level", "logger", "message"} <= set(json.loads(line)), line
    told = [line for line in lines if "jane-doe" in line or "secret-" in line or "sku" in line]
    assert told == []
