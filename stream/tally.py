"""What happened to the records of a chunk, counted; sums of it are a run's summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of records and of what was done because of them.

    Every record read is exactly one of skipped, dead-lettered, late, duplicate and accepted, or a
    request for an erasure.

    Attributes:
        skipped: Records that had been applied before a restart; in no other count.
        accepted: Events that are part of a path now.
        duplicates: Events whose id the path knew.
        late: Events behind the lateness bound.
        dead_letters: Records that are no event, by reason code.
        decisions: Decisions, by reason.
        interventions: Interventions, by kind.
        inference_calls: Questions to the model, each about many paths.
        inference_paths: Paths that the model was asked about.
        inference_avoided: Accepted events that needed no scores, by reason.
        fallbacks: Decisions without the scores that they needed, by reason.
        unknown_types: Accepted events of a type that the vocabulary lacks.
        erasures: Requests for the erasure of a user.
        personal: Fields that looked like personal data and were left out, by kind.
        held_back: Eligible interventions that were held back, by kind and by what.
    """

    skipped: int = 0
    accepted: int = 0
    duplicates: int = 0
    late: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    interventions: Counter[str] = field(default_factory=Counter)
    inference_calls: int = 0
    inference_paths: int = 0
    inference_avoided: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    unknown_types: int = 0
    erasures: int = 0
    personal: Counter[str] = field(default_factory=Counter)
    held_back: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def events_in(self) -> int:
        """Records read, without those that had been applied before."""
        return (
            self.accepted + self.duplicates + self.late + self.dead_letters.total() + self.erasures
        )

    def add(self, other: Tally) -> None:
        """Adds the counts of another tally to this one."""
        for each in fields(self):
            # Counters keep their zero entries this way, numbers just add up.
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, each.name, mine + theirs)

    def summary(self) -> dict[str, object]:
        """The counts under the names that commands print."""
        return {
            "events_in": self.events_in,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "late": self.late,
            "dead_letters": self.dead_letters.total(),
            "dead_letter_reasons": dict(sorted(self.dead_letters.items())),
            "decisions": self.decisions.total(),
            "decision_reasons": dict(sorted(self.decisions.items())),
            "interventions": dict(sorted(self.interventions.items())),
            "inference_calls": self.inference_calls,
            "inference_paths": self.inference_paths,
            "inference_avoided": dict(sorted(self.inference_avoided.items())),
            "fallbacks": dict(sorted(self.fallbacks.items())),
            "unknown_types": self.unknown_types,
            "erasures": self.erasures,
            "personal": dict(sorted(self.personal.items())),
            "skipped": self.skipped,
        }
