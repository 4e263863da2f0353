"""The names of the topics, and how each is to be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clickpath.errors import ConfigError
from clickpath.policy import KINDS

_DAY_MS = 24 * 3600 * 1000

#: States: a broker left alone may keep the old ones for as long as nobody writes much.
COMPACTED: Final = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(_DAY_MS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Names of the topics of one installation.

    Attributes:
        clicks: Click events in, keyed by user id.
        decisions: Every decision, keyed by user id.
        interventions: Prefix of the topics of interventions, one a kind.
        dead_letter: Records that are no event, untouched, with the reason in the headers.
        late: Events behind the lateness bound, untouched.
        changelog: The users' states, compacted.
        models: Which model decides, compacted.
        erasures: What was erased, by the mark of the user, compacted.
    """

    clicks: str = "clicks"
    decisions: str = "decisions"
    interventions: str = "interventions"
    dead_letter: str = "clicks.dead-letter"
    late: str = "clicks.late"
    changelog: str = "clickpath-users-changelog"
    models: str = "models"
    erasures: str = "erasures"

    def of_kind(self, kind: str) -> str:
        """The topic of one kind of intervention."""
        return f"{self.interventions}.{kind}"

    def configs(self, kinds: tuple[str, ...] = KINDS) -> Mapping[str, Mapping[str, str]]:
        """Every topic with the configuration that it is created with."""
        keep = {"retention.ms": str(30 * _DAY_MS)}
        # A dead letter holds an event of the largest size, with headers around it.
        large_bytes = str(4 << 20)
        large = {**keep, "max.message.bytes": large_bytes}
        return {
            self.clicks: {"retention.ms": str(7 * _DAY_MS)},
            # Decisions and states hold a path, which the broker's default of 1 MiB may not.
            self.decisions: large,
            **{self.of_kind(kind): keep for kind in kinds},
            self.dead_letter: large,
            self.late: large,
            self.changelog: {**COMPACTED, "max.message.bytes": large_bytes},
            self.models: {"cleanup.policy": "compact"},
            self.erasures: {"cleanup.policy": "compact"},
        }

    def __post_init__(self) -> None:
        names = [self.clicks, self.decisions, self.dead_letter, self.late]
        names += [self.changelog, self.models, self.erasures]
        if len(set(names)) != len(names):
            raise ConfigError(f"two topics have one name: {', '.join(sorted(names))}")
