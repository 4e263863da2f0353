"""What a worker says of an erasure: a receipt for each partition and step, on a topic of its own.

A receipt is JSON under the mark of the user as its key: `v, mark, step, topic, partition, offset,
at_ms, found, events`. `offset` is the request's place: whatever lies before it in that partition is
erased. `found` tells whether there was a state, `events` how many events it had taken in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clickpath.erasure import Request, mark_of
from stream.batch.records import Chunk, OutputRecord, RawRecord
from stream.misfits import misfit

_Count = Annotated[int, Field(ge=0)]


class Receipt(BaseModel):
    """See the module."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    v: Literal[1] = 1
    mark: str
    step: Literal["erase", "forget"]
    topic: str
    partition: _Count
    offset: _Count
    at_ms: _Count
    found: bool
    events: _Count


def receipt_record(
    topic: str,
    request: Request,
    chunk: Chunk,
    record: RawRecord,
    *,
    now_ms: int,
    found: bool,
    events: int,
) -> OutputRecord:
    """The receipt of one step, for the topic of erasures."""
    receipt = Receipt(
        mark=mark_of(request.user_id),
        step=request.step,
        topic=chunk.topic,
        partition=chunk.partition,
        offset=record.offset,
        at_ms=now_ms,
        found=found,
        events=events,
    )
    return OutputRecord(topic, receipt.mark.encode(), receipt.model_dump_json().encode())


def receipt_of(raw: Any) -> Receipt:
    """The receipt in the bytes of a record.

    Raises:
        NewerVersion: A newer release wrote it.
        StateError: They are none.
    """
    try:
        return Receipt.model_validate_json(raw or b"")
    except ValidationError as error:
        raise misfit("receipt of an erasure", 1, error) from error
