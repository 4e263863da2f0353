"""What the engine is doing, to be read at any time by health pages and metrics.

Nothing here asks a clock except at a commit; ages are computed by whoever reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class PartitionProgress:
    """How far one partition of a batch topic is.

    Attributes:
        topic: The batch topic.
        partition: Its number.
        position: Offset of the next record to hand to the agent.
        acked: Offset of the next record that no finished chunk holds.
        committed: The offset committed last.
        highwater: Offset of the next record that will be produced, as of the last fetch; None
            before the first.
        last_record_ms: Timestamp of the last record of the last finished chunk; None before the
            first.
        first_record_ms: Timestamp of the first record that was handed out; None before.
        records: Records in finished chunks since the partition was assigned.
    """

    topic: str
    partition: int
    position: int
    acked: int
    committed: int
    highwater: int | None = None
    last_record_ms: int | None = None
    first_record_ms: int | None = None
    records: int = 0

    @property
    def lag_events(self) -> int:
        """Records that wait to be finished."""
        return max(0, (self.highwater or 0) - self.acked)

    def lag_s(self, now_ms: int) -> float:
        """Age of the last finished record while others wait behind it, otherwise 0.

        Before a first chunk is finished it is the age of the record that waits longest, so that a
        worker that fails at its first chunk again and again has a lag.
        """
        since_ms = self.first_record_ms if self.last_record_ms is None else self.last_record_ms
        if not self.lag_events or since_ms is None:
            return 0.0
        return max(0.0, (now_ms - since_ms) / 1000)


@dataclass(slots=True)
class StandbyProgress:
    """How far a standby has followed its changelog.

    Attributes:
        position: Offset of the next record to read; None before it is known.
        highwater: Offset of the next record that will be written, as of the last fetch; None
            before the first.
        keys: About how many values there are.
    """

    position: int | None = None
    highwater: int | None = None
    keys: int = 0

    @property
    def lag_records(self) -> int | None:
        """Records of the changelog that are not here yet; None while that is not known."""
        if self.position is None or self.highwater is None:
            return None
        return max(0, self.highwater - self.position)


@dataclass(slots=True, kw_only=True)
class BatchProgress:
    """Everything about one application's batch topics.

    Attributes:
        partitions: The partitions that are being read, by topic and number.
        assignment: Batch partitions that the group gave to this worker; they are read once
            restored.
        standbys: The partitions of changelogs that are followed, by topic and number.
        recovered: Whether the state of the whole assignment is here; also True for a worker that
            has joined the group and got nothing. False before, and during a rebalance.
        recovered_monotonic_s: When that was last the case for the first time.
        missing: Batch topics that the broker does not know (any more).
        records: Records in finished chunks since the start.
        chunks: Finished chunks since the start.
        commits: Commits that had something to commit.
        commit_failures: Commits that have to be tried again.
        changelog_records: Records written to changelogs.
        restored_records: Records read from changelogs.
        rebalances: Assignments received.
        last_commit_monotonic_s: When the last commit went well, on the monotonic clock; None
            before the first. A commit that finds nothing to do counts.
        last_commit_ms: The same in epoch milliseconds.
        last_moved_monotonic_s: When a commit last went well behind which a chunk had been finished,
            or nothing waited, or states were still to be restored; None before the first.
        last_commit_s: How long that commit took.
    """

    partitions: dict[tuple[str, int], PartitionProgress] = field(default_factory=dict)
    assignment: frozenset[tuple[str, int]] = frozenset()
    standbys: dict[tuple[str, int], StandbyProgress] = field(default_factory=dict)
    recovered: bool = False
    recovered_monotonic_s: float | None = None
    missing: frozenset[str] = frozenset()
    records: int = 0
    chunks: int = 0
    commits: int = 0
    commit_failures: int = 0
    changelog_records: int = 0
    restored_records: int = 0
    rebalances: int = 0
    last_commit_monotonic_s: float | None = None
    last_commit_ms: int | None = None
    last_moved_monotonic_s: float | None = None
    last_commit_s: float | None = None

    @property
    def lag_events(self) -> int:
        """Records that wait, over all partitions."""
        return sum(each.lag_events for each in self.partitions.values())

    def lag_s(self, now_ms: int) -> float:
        """The largest lag of a partition, seconds."""
        return max((each.lag_s(now_ms) for each in self.partitions.values()), default=0.0)
