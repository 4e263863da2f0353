"""Replay: a file through the worker's own handler, without a broker.

The file is taken as one partition; the offset of a record is its place in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import islice

from clickpath.logs import RawLine
from clickpath.wire.state import UserState, dump_path, state_hash
from stream.batch.records import Chunk, OutputRecord, RawRecord
from stream.handler import Handler
from stream.tally import Tally
from stream.topics import Topics

#: As many records as a fetch of the worker brings at most.
CHUNK_RECORDS = 1000


class Replay:
    """A run of the handler over records from anywhere.

    Args:
        handler: The worker's handler.
        clock: The present in epoch milliseconds, asked once for each chunk.
        emit: Takes every output record, in order.
    """

    def __init__(
        self, handler: Handler, clock: Callable[[], int], emit: Callable[[OutputRecord], None]
    ) -> None:
        self._handler = handler
        self._clock = clock
        self._emit = emit
        self.users: dict[bytes, UserState] = {}
        self.tally = Tally()

    async def run(self, lines: Iterable[RawLine]) -> None:
        """Handles all lines."""
        for chunk in _chunks(lines):
            outcome = await self._handler.handle(chunk, self.users, self._clock())
            for record in outcome.outputs:
                self._emit(record)
            for key in outcome.erased:
                self.users.pop(key, None)
            self.users.update(outcome.users)
            self.tally.add(outcome.tally)

    def state_hash(self) -> str:
        """The digest of all users' paths."""
        return hash_of_users(self.users.items())


def hash_of_users(users: Iterable[tuple[bytes, UserState]]) -> str:
    """The digest of all users' paths, from their states by user id in UTF-8."""
    return state_hash((key.decode("utf-8"), dump_path(user.path)) for key, user in users)


class InterventionsHash:
    """The digest of a set of interventions: ids and contents, in order of id.

    An intervention that is repeated under its id and with its content counts once.
    """

    def __init__(self, topics: Topics) -> None:
        self._prefix = topics.of_kind("")
        self._seen: set[tuple[str, bytes]] = set()

    def add(self, topic: str, intervention_id: str, content: bytes) -> None:
        """Adds one intervention as it stands on its topic; other topics are passed over."""
        if topic.startswith(self._prefix):
            self._seen.add((intervention_id, sha256(content).digest()))

    def hexdigest(self) -> str:
        """SHA-256 over ids and digests of contents."""
        digest = sha256()
        for intervention_id, content in sorted(self._seen):
            digest.update(intervention_id.encode("utf-8") + content)
        return digest.hexdigest()


def _chunks(lines: Iterable[RawLine]) -> Iterator[Chunk]:
    iterator = iter(lines)
    offset = 0
    while batch := list(islice(iterator, CHUNK_RECORDS)):
        records = [
            RawRecord(n, 0, line.key, line.value, line.headers)
            for n, line in enumerate(batch, start=offset)
        ]
        offset += len(batch)
        yield Chunk("replay", 0, records)
