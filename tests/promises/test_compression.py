"""Records come compressed by any producer, and leave compressed as the settings say."""

import pytest
from aiokafka import AIOKafkaProducer

from clickpath import simulation
from tests.kafka.marks import on_both_brokers

pytestmark = [pytest.mark.broker, on_both_brokers]


async def test_every_compression_is_read_and_the_configured_one_written(
    make_shop, running, oracle, to_lines
) -> None:
    shop = await make_shop(compression="zstd", model="none")
    lines = to_lines(simulation.simulate(400, 20, seed=4))
    expected = await oracle(shop, lines)
    for number, compression in enumerate(("gzip", "snappy", "lz4", "zstd")):
        producer = AIOKafkaProducer(
            bootstrap_servers=shop.settings.bootstrap_servers, compression_type=compression
        )
        await producer.start()
        for line in lines[number * 100 : (number + 1) * 100]:
            await producer.send(shop.settings.clicks_topic, line.value, key=line.key)
        await producer.stop()
    shop.produced += len(lines)

    worker = await running(shop)
    await shop.handled(worker)
    assert await worker.stop() == 0

    assert await shop.state_hash() == expected.state_hash
    assert len(await shop.on(shop.settings.decisions_topic)) == expected.run.tally.decisions.total()
