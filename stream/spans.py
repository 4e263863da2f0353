"""What a trace is told while a chunk is handled; `stream.tracing` is the one that listens.

Without tracing there is no `ChunkTrace`, and nobody tells anything: that is a comparison with None
for each chunk, each question to the model and each intervention.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from clickpath.decision import Decision
from stream.batch.records import Chunk, RawRecord

Headers = tuple[tuple[str, bytes | None], ...]


class ChunkTrace(Protocol):
    """The spans of one chunk."""

    def due(self, causes: Iterable[RawRecord]) -> None:
        """Decisions are due because of these records, of which some belong to a sampled trace."""
        ...

    def scoring(self, paths: int) -> AbstractContextManager[None]:
        """Surrounds one question to the model, about so many paths."""
        ...

    def sent(self, cause: RawRecord, decision: Decision) -> Headers:
        """An intervention leaves; gives the headers that carry the trace of its cause on."""
        ...

    def end(self) -> None:
        """The outputs of the chunk are acknowledged."""
        ...


class Tracer(Protocol):
    """Makes the traces of chunks."""

    def chunk(self, chunk: Chunk) -> ChunkTrace:
        """The trace of a chunk that begins now."""
        ...

    def close(self) -> None:
        """Hands out what has not left yet; waits for some seconds at most."""
        ...
