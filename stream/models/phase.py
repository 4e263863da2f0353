"""How much has come to be known of a candidate since a phase of its rollout began."""

from __future__ import annotations

from stream.models.evidence import Evidence


class PhaseCount:
    """Counts the outcomes of a phase, and only those of paths that were scored in it.

    An outcome may come long after its path was scored. While the server stands still no path is
    scored any more, and what comes of earlier ones says nothing of the candidate now: a phase does
    not end by it.
    """

    def __init__(self) -> None:
        self._number = 0
        self._outcomes = 0
        self._pairs = 0

    def outcomes(self, number: int, every: Evidence) -> int:
        """The outcomes since a phase was first seen, at most as many as paths scored since then.

        Args:
            number: Of the record with which the phase began.
            every: What all workers know by now, of the whole rollout.
        """
        if number != self._number:
            self._number = number
            self._outcomes, self._pairs = every.action.outcomes, every.pairs
        return min(every.action.outcomes - self._outcomes, every.pairs - self._pairs)
