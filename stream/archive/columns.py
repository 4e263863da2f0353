"""The columns of the archive, and rows of them made of clicks and of decision records."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clickpath.errors import StateError
from clickpath.events import MAX_TS_MS, Click
from stream.erasing import Receipt


def _fields(**types: Any) -> list[Any]:
    return [pa.field(name, type_, nullable=False) for name, type_ in types.items()]


def _rows_of(**types: Any) -> Any:
    return pa.list_(pa.field("item", pa.struct(_fields(**types)), nullable=False))


#: Where a row comes from: the record's own timestamp, and its place.
_ORIGIN: Final = _fields(
    received_ms=pa.int64(), topic=pa.string(), partition=pa.int32(), offset=pa.int64()
)

_ITEM: Final = pa.struct(
    [
        *_fields(item_id=pa.string()),
        pa.field("category", pa.string()),
        pa.field("price_cents", pa.int64()),
        *_fields(quantity=pa.int64()),
    ]
)

CLICKS: Final = pa.schema(
    [
        *_fields(event_id=pa.string(), user_id=pa.string(), ts_ms=pa.int64(), type=pa.string()),
        pa.field("items", pa.list_(pa.field("item", _ITEM, nullable=False)), nullable=False),
        pa.field("value_cents", pa.int64()),
        *_ORIGIN,
    ]
)

DECISIONS: Final = pa.schema(
    [
        *_fields(
            decision_id=pa.string(), user_id=pa.string(), event_id=pa.string(), now_ms=pa.int64()
        ),
        pa.field("kind", pa.string()),
        pa.field("offer", pa.string()),
        *_fields(reason=pa.string(), arm=pa.string()),
        pa.field("fallback", pa.string()),
        *_fields(
            eligible=pa.list_(pa.field("item", pa.string(), nullable=False)),
            suppressed=_rows_of(kind=pa.string(), reason=pa.string()),
            action_set=_rows_of(choice=pa.string(), propensity=pa.float64()),
            propensity=pa.float64(),
        ),
        pa.field("score_purchase", pa.float64()),
        pa.field("scores_next_action", _rows_of(action=pa.string(), probability=pa.float64())),
        *_fields(model=pa.string(), policy=pa.string(), encoder=pa.string(), state=pa.binary()),
        *_fields(ledger=_rows_of(kind=pa.string(), at_ms=pa.int64())),
        pa.field("expires_ms", pa.int64()),
        *_fields(json=pa.string()),
        *_ORIGIN,
    ]
)

#: What lies before `erased_offset` in a partition of the clicks, and was decided until `at_ms`, is
#: erased for the user with this mark (`clickpath.erasure.mark_of`).
ERASURES: Final = pa.schema(
    [
        *_fields(mark=pa.string(), step=pa.string(), at_ms=pa.int64()),
        *_fields(erased_topic=pa.string(), erased_partition=pa.int32(), erased_offset=pa.int64()),
        *_fields(found=pa.bool_(), events=pa.int64()),
        *_ORIGIN,
    ]
)

#: By kind of row: the column of the event time.
TIME_COLUMN: Final = {"clicks": "ts_ms", "decisions": "now_ms", "erasures": "at_ms"}

#: By kind of row: the column by which rows are spread over buckets.
BUCKET_COLUMN: Final = {"clicks": "user_id", "decisions": "user_id", "erasures": "mark"}


class Origin(NamedTuple):
    """Where a row comes from."""

    received_ms: int
    topic: str
    partition: int
    offset: int


Row = tuple[Any, ...]


def click_row(click: Click, origin: Origin) -> Row:
    """The row of an accepted click; `type` is the name as it was sent."""
    items = [(i.item_id, i.category, i.price_cents, i.quantity) for i in click.items]
    return (
        click.event_id,
        click.user_id,
        click.ts_ms,
        click.type_name,
        items,
        click.value_cents,
        *origin,
    )


def erasure_row(receipt: Receipt, origin: Origin) -> Row:
    """The row of a receipt."""
    return (
        receipt.mark,
        receipt.step,
        receipt.at_ms,
        receipt.topic,
        receipt.partition,
        receipt.offset,
        receipt.found,
        receipt.events,
        *origin,
    )


_Ms = Annotated[int, Field(ge=0, le=1 << 62)]


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, protected_namespaces=())


class _Scores(_Open):
    purchase: float
    next_action: dict[str, float]


class _Intervention(_Open):
    expires_ms: _Ms


class DecisionFields(_Open):
    """What the columns need of a decision record; more may be in it (`clickpath.wire.records`)."""

    decision_id: str
    user_id: str
    event_id: str
    now_ms: Annotated[int, Field(ge=0, le=MAX_TS_MS)]
    kind: str | None
    offer: str | None
    reason: str
    arm: str
    fallback: str | None
    eligible: list[str]
    suppressed: dict[str, str]
    action_set: dict[str, float]
    propensity: float
    scores: _Scores | None
    model: str
    policy: str
    encoder: str
    intervention: _Intervention | None
    state: str
    ledger: list[tuple[str, _Ms]]


def decision_fields(raw: bytes | None) -> DecisionFields:
    """The fields of a record of the decisions topic.

    Raises:
        StateError: It is no decision record.
    """
    try:
        return DecisionFields.model_validate_json(raw or b"")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole of it"
        raise StateError(f"this is no decision record: {place}: {first['msg']}") from error


def decision_row(fields: DecisionFields, raw: bytes, origin: Origin) -> Row:
    """The row of a decision.

    Raises:
        StateError: Its state is no base64.
    """
    try:
        state = b64decode(fields.state, validate=True)
    except (Base64Error, ValueError) as error:
        raise StateError(f"the state in a decision record is no base64: {error}") from error
    scores = fields.scores
    return (
        fields.decision_id,
        fields.user_id,
        fields.event_id,
        fields.now_ms,
        fields.kind,
        fields.offer,
        fields.reason,
        fields.arm,
        fields.fallback,
        fields.eligible,
        list(fields.suppressed.items()),
        list(fields.action_set.items()),
        fields.propensity,
        None if scores is None else scores.purchase,
        None if scores is None else list(scores.next_action.items()),
        fields.model,
        fields.policy,
        fields.encoder,
        state,
        fields.ledger,
        None if fields.intervention is None else fields.intervention.expires_ms,
        raw.decode("utf-8"),
        *origin,
    )


def batch_of(rows: Sequence[Row], schema: Any) -> Any:
    """Rows, at least one, as an Arrow record batch."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
