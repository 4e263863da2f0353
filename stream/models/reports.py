"""What workers report of a candidate, so that one of them can add it up.

Rules

1.  A worker writes under a key of its own, `report/<its name>`, with a name that no other process
    ever has: nobody writes over what another one has seen, whoever takes its partitions.
2.  A report is the sum of all that its worker has seen of the rollout, so it may be written as
    often as is liked, and the newest one counts.
3.  A worker that has left has seen what it has seen: its last report goes on counting. One that
    stops writes it then; of one that dies the last `REPORT_S` seconds are missing, and what its
    successor has to handle again counts again.
4.  Reports of an earlier rollout than the one that stands are removed by the worker that leads: the
    topic holds one report for each process of the newest rollout.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import uuid4

from stream.models.evidence import Evidence, added
from stream.models.record import to_json
from stream.models.topic import REPORT_PREFIX, Known, Report, Sent

#: Between two reports.
REPORT_S: Final = 2.0


class Reports:
    """One worker's reports, and those of the others.

    Args:
        known: What the topic says.
        send: Writes to it.
    """

    def __init__(self, known: Known, send: Sent) -> None:
        self._known = known
        self._send = send
        self._key = REPORT_PREFIX + uuid4().hex.encode()
        self._sent_s = float("-inf")

    async def tell(
        self, rollout: str, evidence: Evidence, now_s: float, *, at_once: bool = False
    ) -> None:
        """Writes what this worker has seen, if that is anything and it is time.

        Args:
            rollout: Id of it.
            evidence: All of it.
            now_s: Seconds of a clock that only goes forward.
            at_once: Whether it is time in any case.
        """
        if evidence.calls and (at_once or now_s >= self._sent_s + REPORT_S):
            self._sent_s = now_s
            await self._send(self._key, to_json(Report(rollout=rollout, evidence=evidence)))

    def every(self, rollout: str, mine: Evidence) -> Evidence:
        """What all workers have seen of a rollout; of this one, what it knows now."""
        return added([mine, self._known.evidence(rollout, without=self._key)])

    async def remove_all_but(self, rollout: str) -> None:
        """Removes the reports of all other rollouts."""
        for key in self._old(rollout):
            await self._send(key, None)
            self._known.reports.pop(key, None)

    def _old(self, rollout: str) -> Iterable[bytes]:
        return [key for key, each in self._known.reports.items() if each.rollout != rollout]
