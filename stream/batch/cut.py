"""What an agent has in hand, and what a commit takes of what it has finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from stream.batch.progress import PartitionProgress
from stream.batch.records import Chunk, OutputRecord
from stream.batch.table import Changes, KeyedTable


class PositionWentBack(Exception):
    """A partition begins before what was processed: it was truncated, or made anew."""


@dataclass(slots=True)
class InHand:
    """The chunk that the agent works on.

    Attributes:
        chunk: The chunk.
        epoch: The assignment that it came with.
        written: Whether state was written for it, or an output held.
        outputs: What is held of its outputs.
    """

    chunk: Chunk
    epoch: int
    written: bool = False
    outputs: list[OutputRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cut:
    """What one commit takes from one partition.

    Attributes:
        partition: The source's partition.
        offset: The offset to commit.
        changes: What each table has to write first.
        part: The partition as it was when this was taken; after a restore there is another one.
        outputs: What was held of the outputs of finished chunks, in order.
    """

    partition: TopicPartition
    offset: int
    changes: tuple[tuple[KeyedTable[Any], Changes[Any]], ...]
    part: PartitionProgress
    outputs: Sequence[OutputRecord] = ()
