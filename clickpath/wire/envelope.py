"""What an outer message knows about the event inside it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Envelope(NamedTuple):
    """Stands in for what the event itself does not say.

    Attributes:
        event_id: Id of the event; None when there is no outer message.
        ts_ms: Time of the event; None when the outer message has none either.
    """

    event_id: str | None
    ts_ms: int | None


NO_ENVELOPE: Final = Envelope(None, None)
