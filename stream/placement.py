"""Whether records lie where the key puts them, looked at for some records of each chunk.

All events of a user have to come to one partition: the state is there. Java's clients, aiokafka and
Faust take the murmur2 hash of the key, librdkafka's clients CRC32 unless told otherwise
(`partitioner=murmur2_random`), so that a second producer with another client splits the paths of
users. Records without a key lie anywhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from aiokafka.partitioner import murmur2

from clickpath.erasure import HEADER
from stream.batch.records import Chunk, Unreadable

logger = logging.getLogger(__name__)

#: The hash is computed in Python: so few that a chunk does not notice, enough to see a producer
#: that sends one record in a hundred within some chunks.
_LOOKED_AT: Final = 4

PLACED: Final = "placed"
ELSEWHERE: Final = "elsewhere"
NO_KEY: Final = "no_key"


def partition_of(key: bytes, partitions: int) -> int:
    """The partition in which Java's default partitioner puts a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Placement:
    """Looks at chunks, and remembers what it saw.

    Args:
        partitions_of: The number of partitions of a topic; 0 while it is not known.
    """

    def __init__(self, partitions_of: Callable[[str], int]) -> None:
        self._partitions_of = partitions_of
        self.seen: Counter[str] = Counter()

    def look(self, chunk: Chunk) -> Counter[str]:
        """What was seen of some records of a chunk, also for those who ask later."""
        found: Counter[str] = Counter()
        partitions = self._partitions_of(chunk.topic)
        if partitions:
            records = chunk.records
            for record in records[:: -(-len(records) // _LOOKED_AT)]:
                if isinstance(record, Unreadable):
                    continue
                if record.headers and any(name == HEADER for name, _ in record.headers):
                    # A request for an erasure lies in every partition, without a key.
                    continue
                if record.key is None:
                    found[NO_KEY] += 1
                elif partition_of(record.key, partitions) == chunk.partition:
                    found[PLACED] += 1
                else:
                    found[ELSEWHERE] += 1
        before = self.warning
        self.seen += found
        if before is None and self.warning is not None:
            logger.warning("%s", self.warning)
        return found

    @property
    def warning(self) -> str | None:
        """One sentence if records lay where their key does not put them; None otherwise."""
        misplaced, looked_at = self.seen[ELSEWHERE] + self.seen[NO_KEY], self.seen.total()
        if not misplaced:
            return None
        return (
            f"{misplaced} of {looked_at} records looked at were not in the partition of the "
            "murmur2 hash of their key: a producer with another partitioner, or without keys, "
            "splits the paths of users"
        )
