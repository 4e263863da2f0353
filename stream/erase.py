"""Has the workers erase a user: asks, waits until it is committed, and collects the receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from clickpath.erasure import Request, Step, mark_of, request_to_record
from clickpath.errors import FatalError, UsageError
from stream.clients import Admin, Consumer, Producer
from stream.erasing import Receipt, receipt_of
from stream.reading import read_topic
from stream.refusals import started
from stream.settings import Settings

_LOOK_S: Final = 0.2

#: What a broker says of a setting of milliseconds that is not set.
_NO_LIMIT: Final = str((1 << 63) - 1)

#: How long receipts are waited for after the requests are committed.
_RECEIPTS_S: Final = 15.0


class NotErased(FatalError):
    """No worker has done it in time; the request stays, and will be done."""


async def erase_user(settings: Settings, user_id: str, timeout_s: float) -> list[Receipt]:
    """Has a user erased; returns the receipts of all partitions, of both steps.

    Args:
        settings: Of the workers.
        user_id: The user, as the edge gives it.
        timeout_s: How long the workers may take for each of the two steps.

    Raises:
        UsageError: There is no topic for it.
        NotErased: No worker has committed it in time.
    """
    offsets: dict[TopicPartition, int] = {}
    places: set[tuple[int, int]] = set()
    for step in ("erase", "forget"):
        offsets = await _ask(settings, Request(step, user_id))
        places |= {(tp.partition, offset) for tp, offset in offsets.items()}
        await _committed(settings, offsets, step, timeout_s)
    receipts = await _receipts(settings, user_id, places)
    looked_until_s = asyncio.get_running_loop().time() + _RECEIPTS_S
    # The end of a transaction may be seen on one topic before it is on another.
    while len(receipts) < len(places) and asyncio.get_running_loop().time() < looked_until_s:
        await asyncio.sleep(_LOOK_S)
        receipts = await _receipts(settings, user_id, places)
    return [receipts[place] for place in sorted(receipts)]


async def _receipts(
    settings: Settings, user_id: str, places: Collection[tuple[int, int]]
) -> dict[tuple[int, int], Receipt]:
    """The receipts of requests by their partition and offset, as far as they can be read now."""
    receipts: dict[tuple[int, int], Receipt] = {}
    mark = mark_of(user_id).encode()
    async for record in read_topic(settings.connection, settings.erasures_topic):
        if record.key == mark:
            receipt = receipt_of(record.value)
            place = (receipt.partition, receipt.offset)
            # A crash may repeat one, which then found nothing any more.
            if place in places and not (place in receipts and receipts[place].found):
                receipts[place] = receipt
    return receipts


async def _ask(settings: Settings, request: Request) -> dict[TopicPartition, int]:
    """Sends a request to each partition of the clicks; where it lies."""
    value, headers = request_to_record(request)
    producer = Producer(**settings.connection.client_arguments(), acks="all")
    async with started(producer, settings.connection):
        cluster = await producer.client.fetch_all_metadata()
        for topic in (settings.clicks_topic, settings.erasures_topic):
            if not cluster.partitions_for_topic(topic):
                raise UsageError(
                    f"there is no topic {topic} at {settings.bootstrap_servers}; "
                    "`clickpath topics create` makes it"
                )
        sent = [
            await producer.send(
                settings.clicks_topic, value, partition=number, headers=list(headers)
            )
            for number in sorted(cluster.partitions_for_topic(settings.clicks_topic))
        ]
        return {each.topic_partition: each.offset for each in await asyncio.gather(*sent)}


async def _committed(
    settings: Settings, offsets: Mapping[TopicPartition, int], step: Step, timeout_s: float
) -> None:
    """Waits until the workers have committed everything up to these offsets, states included."""
    consumer = Consumer(
        **settings.connection.consumer_arguments(),
        group_id=settings.app_id,
        enable_auto_commit=False,
    )
    missing = dict(offsets)
    async with started(consumer, settings.connection):
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for tp, offset in list(missing.items()):
                        if (await consumer.committed(tp) or 0) > offset:
                            del missing[tp]
                    if not missing:
                        return
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError as error:
            numbers = ", ".join(str(tp.partition) for tp in missing)
            raise NotErased(
                f"no worker of the group {settings.app_id} has done the step {step!r} in "
                f"{timeout_s:g} s for partitions {numbers}; the request stays and will be done; "
                "run this again for the receipt"
            ) from error


async def kept_elsewhere(settings: Settings) -> dict[str, Any]:
    """How long, in milliseconds, the topics keep what was written before; null for ever.

    Of the states it is how long the broker may wait until it compacts them.
    """
    topics = settings.topics
    names = [name for name in topics.configs() if name not in (topics.models, topics.erasures)]
    admin = Admin(**settings.connection.client_arguments())
    kept: dict[str, Any] = {}
    async with started(admin, settings.connection):
        known = set(await admin.list_topics())
        for name in names:
            if name in known:
                asked = ConfigResource(ConfigResourceType.TOPIC, name)
                [answer] = await admin.describe_configs([asked])
                [(_, _, _, _, entries)] = answer.resources
                setting = "max.compaction.lag.ms" if name == topics.changelog else "retention.ms"
                found = {key: value for key, value, *_ in entries}.get(setting)
                kept[name] = None if found in (None, "-1", _NO_LIMIT) else int(found)
    return kept
