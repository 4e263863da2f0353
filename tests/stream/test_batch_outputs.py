"""Rules of sending records in batches."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from stream.batch.app import batch_app
from stream.batch.outputs import Outputs, OutputTooLarge, size_bytes
from stream.batch.records import OutputRecord
from stream.connection import Connection
from stream.reading import read_topic
from tests.stream.counting import Job, read_all

pytestmark = pytest.mark.broker

LIMIT_BYTES = 50_000


@pytest.fixture
async def outputs(job: Job) -> AsyncIterator[Outputs]:
    producer = AIOKafkaProducer(
        bootstrap_servers=job.servers, acks="all", max_batch_size=20_000, max_request_size=100_000
    )
    await producer.start()
    yield Outputs(lambda: producer, record_limit_bytes=LIMIT_BYTES)
    await producer.stop()


async def test_records_go_to_the_partition_of_their_source(job: Job, outputs: Outputs) -> None:
    await outputs.send(3, [OutputRecord(job.topic, b"k", b"v")])
    assert await read_all(job.servers, job.topic) == [(3, b"k", b"v")]


async def test_a_topic_of_fewer_partitions_takes_the_number_modulo(
    job: Job, outputs: Outputs
) -> None:
    await outputs.send(3, [OutputRecord(job.out, b"k", b"v")])
    assert await read_all(job.servers, job.out) == [(1, b"k", b"v")]


async def test_many_records_are_split_and_keep_their_order(job: Job, outputs: Outputs) -> None:
    records = [OutputRecord(job.out, b"k", b"%05d" % each + bytes(500)) for each in range(500)]
    await outputs.send(0, records)
    found = await read_all(job.servers, job.out)
    assert [value for _, _, value in found] == [each.value for each in records]


async def test_records_of_several_topics_go_out_together(job: Job, outputs: Outputs) -> None:
    await outputs.send(
        1,
        [
            OutputRecord(job.out, b"a", b"1"),
            OutputRecord(job.topic, b"b", b"2", (("reason", b"late"),), 1_234),
            OutputRecord(job.out, b"c", None),
        ],
    )
    assert await read_all(job.servers, job.out) == [(1, b"a", b"1"), (1, b"c", None)]
    assert await read_all(job.servers, job.topic) == [(1, b"b", b"2")]


async def test_a_record_over_the_limit_is_named_and_nothing_is_sent(
    job: Job, outputs: Outputs
) -> None:
    large = OutputRecord(job.out, b"user-7", bytes(LIMIT_BYTES))
    with pytest.raises(OutputTooLarge, match=rf"{size_bytes(large)} bytes for {job.out}") as caught:
        await outputs.send(0, [OutputRecord(job.out, b"k", b"v"), large])
    assert (caught.value.topic, caught.value.key) == (job.out, b"user-7")
    assert "user-7" not in str(caught.value)  # it is logged
    assert await read_all(job.servers, job.out) == []


async def test_headers_count_for_the_limit(job: Job, outputs: Outputs) -> None:
    record = OutputRecord(job.out, b"k", b"v", (("trace", bytes(LIMIT_BYTES)),))
    with pytest.raises(OutputTooLarge):
        await outputs.send(0, [record])


async def test_a_record_larger_than_a_batch_but_within_the_limit_goes_alone(
    job: Job, outputs: Outputs
) -> None:
    values = [b"small", bytes(40_000), b"small too"]
    await outputs.send(0, [OutputRecord(job.out, b"k", each) for each in values])
    assert [value for _, _, value in await read_all(job.servers, job.out)] == values


async def test_a_header_without_a_value_is_sent_as_it_is(job: Job, outputs: Outputs) -> None:
    await outputs.send(0, [OutputRecord(job.out, b"k", b"v", (("trace", None),))])
    [record] = [each async for each in read_topic(Connection(job.servers), job.out)]
    assert record.headers == (("trace", None),)


async def test_no_records_is_no_request(outputs: Outputs) -> None:
    await outputs.send(0, [])


async def test_records_that_belong_to_no_chunk_are_acknowledged_by_all_replicas_too() -> None:
    app = batch_app("idle", connection=Connection("127.0.0.1:1"))
    assert app.plain_producer()._sender._acks == -1
