"""The example consumers keep the contract: once for each id, not after its time, known versions."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from clickpath.decision import Intervention
from clickpath.logs import RawLine
from clickpath.wire.records import intervention_to_json
from stream.broker import EmbeddedBroker, TopicSpec, create_topics
from stream.connection import Connection
from stream.producing import produce
from tests.docs.node import node_program

ROOT = Path(__file__).resolve().parents[2]
HOUR_MS = 3_600_000

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def intervention(number: int) -> Intervention:
    now_ms = time.time_ns() // 1_000_000
    return Intervention(
        intervention_id=f"{number:032x}",
        kind="coupon",
        offer="ten-percent",
        payload=(("discount_pct", 10),),
        user_id="u-1",
        event_id=f"e-{number}",
        created_ms=now_ms,
        expires_ms=now_ms + HOUR_MS,
        lines=(),
        model="none",
        policy="p",
    )


A, B, C, LAST = map(intervention, (1, 2, 3, 99))
EXPIRED = replace(intervention(4), expires_ms=A.created_ms - 1)


def with_fields(value: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(value), **fields}).encode()


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


class Consumer:
    """An example, started as its page says, again and again with the same file of ids."""

    def __init__(self, command: list[str], folder: Path, servers: str, kind: str) -> None:
        self._command = [*command, "--bootstrap-servers", servers, "--kind", kind]
        self._folder = folder

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._folder, stdout=asyncio.subprocess.PIPE
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def acts_until(self, last: Intervention, *, kill: bool) -> list[str]:
        """The ids that it acts on until it acts on the last one; then it is stopped, or killed."""
        acted: list[str] = []
        async with self.running() as process, asyncio.timeout(120):
            assert process.stdout is not None
            while last.intervention_id not in acted:
                line = await process.stdout.readline()
                assert line, f"it ended, having acted on {acted}"
                acted.append(json.loads(line)["acted_on"])
            if not kill:
                process.terminate()
                assert await process.wait() == 0
        return acted


@pytest.fixture(params=["python", "node"])
async def consumer(
    request: pytest.FixtureRequest, tmp_path: Path, broker: EmbeddedBroker
) -> tuple[Consumer, str]:
    """A consumer, and the topic that it reads."""
    kind = re.sub(r"[^a-z]+", "-", request.node.name.lower())
    topic = f"interventions.{kind}"
    await create_topics(Connection(broker.bootstrap_servers), {topic: TopicSpec(partitions=1)})
    if request.param == "python":
        command = [sys.executable, str(ROOT / "examples/python/consume.py")]
    else:
        node, program = node_program(ROOT / "examples/node", tmp_path)
        command = [node, str(program / "consume.mjs")]
    return Consumer(command, tmp_path, broker.bootstrap_servers, kind), topic


async def send(broker: EmbeddedBroker, topic: str, *values: bytes) -> None:
    lines = [RawLine(b"u-1", value, (), "") for value in values]
    await produce(lines, Connection(broker.bootstrap_servers), topic)


async def test_a_consumer_acts_once_on_each_id_in_time_and_of_its_version(
    consumer: tuple[Consumer, str], broker: EmbeddedBroker
) -> None:
    program, topic = consumer
    a, b, expired, last = map(intervention_to_json, (A, B, EXPIRED, LAST))
    await send(
        broker,
        topic,
        *(a, a, expired, with_fields(b, later_field={"is": "of no concern"}), a),
        with_fields(intervention_to_json(C), v=2),
        *(b, last),
    )

    acted = await program.acts_until(LAST, kill=False)

    assert acted == [each.intervention_id for each in (A, B, LAST)]


async def test_a_consumer_that_was_killed_repeats_nothing_but_what_it_had_in_hand(
    consumer: tuple[Consumer, str], broker: EmbeddedBroker
) -> None:
    program, topic = consumer
    a, b, c, last = map(intervention_to_json, (A, B, C, LAST))
    await send(broker, topic, a, b)
    assert await program.acts_until(B, kill=True) == [A.intervention_id, B.intervention_id]

    # As after a crash of the worker: they come again, under their ids.
    await send(broker, topic, a, b, c, a, last)
    acted = await program.acts_until(LAST, kill=False)

    # Between the action and its note it was killed, or after that.
    assert acted[:-2] in ([], [B.intervention_id])
    assert acted[-2:] == [C.intervention_id, LAST.intervention_id]
