"""Reports add up to what was seen, whoever joins, leaves or dies, and in whatever order."""

import random

from stream.models.evidence import Evidence
from stream.models.reports import REPORT_S, Reports
from stream.models.topic import Known


class Topic:
    """The models topic among workers: each reads all that is written, a new one the compacted."""

    def __init__(self) -> None:
        self.compacted: dict[bytes, bytes | None] = {}
        self.readers: list[Known] = []

    async def send(self, key: bytes, value: bytes | None) -> None:
        self.compacted[key] = value
        for known in self.readers:
            known.take(key, value)

    def joined(self) -> tuple[Known, Reports]:
        known = Known()
        for key, value in self.compacted.items():
            known.take(key, value)
        self.readers.append(known)
        return known, Reports(known, self.send)


def seen(pairs: int) -> Evidence:
    return Evidence(pairs=pairs, calls=pairs)


async def test_the_sum_is_right_through_any_joins_leaves_and_crashes() -> None:
    for seed in range(20):
        luck, topic = random.Random(seed), Topic()
        workers: list[tuple[Reports, Evidence]] = []
        gone = 0
        for _ in range(60):
            turn = luck.random()
            if turn < 0.2 or not workers:
                workers.append((topic.joined()[1], Evidence()))
            elif turn < 0.3:
                # It dies or leaves, its last report written; its partitions go to the others.
                reports, evidence = workers.pop(luck.randrange(len(workers)))
                await reports.tell("r", evidence, 0.0, at_once=True)
                gone += evidence.pairs
            else:
                reports, evidence = luck.choice(workers)
                evidence.pairs += luck.randrange(1, 50)
                evidence.calls += 1
                await reports.tell("r", evidence, 0.0, at_once=True)
            here = sum(evidence.pairs for _, evidence in workers)
            for reports, evidence in workers:
                assert reports.every("r", evidence).pairs == gone + here, seed


async def test_a_worker_counts_what_it_knows_now_and_not_what_it_reported() -> None:
    topic = Topic()
    _, reports = topic.joined()
    await reports.tell("r", seen(3), 0.0)
    assert reports.every("r", seen(8)).pairs == 8


async def test_reports_are_written_every_so_often_and_none_while_nothing_was_seen() -> None:
    topic = Topic()
    known, reports = topic.joined()
    await reports.tell("r", Evidence(), 0.0, at_once=True)
    assert topic.compacted == {}
    await reports.tell("r", seen(1), 0.0)
    await reports.tell("r", seen(2), REPORT_S - 0.1)
    assert known.evidence("r").pairs == 1
    await reports.tell("r", seen(3), REPORT_S)
    assert known.evidence("r").pairs == 3
    await reports.tell("r", seen(4), REPORT_S, at_once=True)
    assert known.evidence("r").pairs == 4


async def test_the_topic_holds_reports_of_the_newest_rollout_alone() -> None:
    topic = Topic()
    for pairs in (1, 2, 4):
        _, reports = topic.joined()
        await reports.tell("old", seen(pairs), 0.0)
    known, reports = topic.joined()
    await reports.tell("new", seen(8), 0.0)
    await reports.remove_all_but("new")
    assert (known.evidence("old").pairs, known.evidence("new").pairs) == (0, 8)
    assert len([value for value in topic.compacted.values() if value is not None]) == 1
    assert {*topic.readers[0].reports} == {*known.reports}
