"""Whether the shop's ids look like personal data: then its events are dead letters, and it is said.

Many shops take the e-mail address for the user's id. Without a key for pseudonyms such events are
refused, since the id would stand in states, decisions and interventions. A few are a mistake of
somebody's; where it is a part of the traffic, the worker says so, once in its log and on `/ready`
for as long as it holds.
"""

from __future__ import annotations

import logging
from typing import Final

from stream.tally import Tally

logger = logging.getLogger(__name__)

#: From one refused record in so many on, it is no mistake any more but how the shop makes its ids.
_ONE_IN: Final = 100


class PersonalIds:
    """Counts since the start.

    Args:
        pseudonyms: Whether there is a key: then only the ids of events can be refused.
    """

    def __init__(self, *, pseudonyms: bool) -> None:
        self._pseudonyms = pseudonyms
        self._refused = 0
        self._records = 0
        self._said = False

    def look(self, tally: Tally) -> None:
        """Adds a chunk's counts."""
        self._records += tally.events_in
        refused = tally.dead_letters.get("personal_data", 0)
        if not refused:
            return
        self._refused += refused
        if not self._said and self.warning is not None:
            self._said = True
            logger.warning("%s", self.warning)

    @property
    def warning(self) -> str | None:
        """One sentence where ids are refused in more than single records; None otherwise."""
        if self._refused * _ONE_IN < self._records or not self._refused:
            return None
        told = f"{self._refused} of {self._records} records were refused as dead letters because "
        if self._pseudonyms:
            return told + (
                "the id of the event looks like an e-mail address, a phone number or a card number"
            )
        return told + (
            "the id of the user, or of the event, looks like an e-mail address, a phone number or "
            "a card number; with CLICKPATH_PSEUDONYM_KEY_FILE set such user ids become pseudonyms, "
            "and `clickpath dlq redrive` then sends the refused records again"
        )
