"""Rules of who gets which partition where partitions have standbys."""

from __future__ import annotations

from collections import Counter
from math import ceil

from faust.assignor.client_assignment import CopartitionedAssignment
from hypothesis import given
from hypothesis import strategies as st

from stream.batch.assignor import place

Shares = dict[str, CopartitionedAssignment]


def shares(**had: tuple[set[int], set[int]]) -> Shares:
    return {
        member: CopartitionedAssignment(set(actives), set(standbys), {"clicks"})
        for member, (actives, standbys) in had.items()
    }


def plain(placed: Shares) -> dict[str, tuple[set[int], set[int]]]:
    return {member: (share.actives, share.standbys) for member, share in placed.items()}


def group_of(members: str, partitions: int, replicas: int) -> Shares:
    """A group in which one member after the other has joined."""
    placed: Shares = {}
    for member in members:
        placed = place({**placed, **shares(**{member: (set(), set())})}, partitions, replicas)
    return placed


def test_the_standby_of_a_dead_worker_gets_its_partitions() -> None:
    had = shares(a=({0, 1}, {2, 3}), b=({2, 3}, {0, 1}))
    del had["b"]
    assert plain(place(had, 4, 1)) == {"a": ({0, 1, 2, 3}, set())}


def test_a_standby_gets_a_partition_also_beyond_its_share() -> None:
    had = shares(a=({0, 1}, {2}), c=({3}, {0, 1}))  # b is gone, which had 2
    placed = place(had, 4, 1)
    assert placed["a"].actives == {0, 1, 2}


def test_a_worker_that_joins_gets_its_share_at_once() -> None:
    had = shares(a=({0, 1}, {2, 3}), b=({2, 3}, {0, 1}), c=(set(), set()))
    assert sorted(len(each.actives) for each in place(had, 4, 1).values()) == [1, 1, 2]


def test_a_partition_that_is_taken_from_a_worker_has_its_standby_there() -> None:
    had = shares(a=({0, 1, 2, 3}, set()), b=(set(), set()))
    placed = place(had, 4, 1)
    assert placed["a"].standbys == placed["b"].actives


def test_with_too_few_workers_each_other_one_is_a_standby() -> None:
    assert plain(place(shares(a=(set(), set())), 2, 3)) == {"a": ({0, 1}, set())}
    placed = group_of("ab", 2, 3)
    assert placed["a"].standbys == placed["b"].actives


def test_two_workers_that_claim_a_partition_do_not_both_keep_it() -> None:
    placed = place(shares(a=({0, 1}, set()), b=({0, 1}, set())), 2, 0)
    assert sorted([*placed["a"].actives, *placed["b"].actives]) == [0, 1]


members = st.sampled_from("abcdefg")


@given(
    partitions=st.integers(1, 24),
    replicas=st.integers(0, 3),
    changes=st.lists(st.sets(members, min_size=1), min_size=1, max_size=6),
)
def test_whoever_comes_and_goes_each_partition_has_one_owner_and_its_standbys_elsewhere(
    partitions: int, replicas: int, changes: list[set[str]]
) -> None:
    placed: Shares = {}
    for present in changes:
        before = {each: placed[each] for each in present & placed.keys()}
        joined = present - placed.keys()
        left = placed.keys() - present
        placed = place(
            {**before, **shares(**{each: (set(), set()) for each in joined})}, partitions, replicas
        )
        owners = [each for share in placed.values() for each in share.actives]
        assert sorted(owners) == list(range(partitions))
        standbys = Counter(each for share in placed.values() for each in share.standbys)
        wanted = min(replicas, len(present) - 1)
        assert standbys == dict.fromkeys(range(partitions), wanted) if wanted else not standbys
        for member, share in placed.items():
            assert not share.actives & share.standbys
            if not left and not joined:
                continue
            for number in share.actives - before_actives(before, member):
                waiting = {each for each in before if number in before[each].standbys}
                orphaned = all(number not in each.actives for each in before.values())
                assert not (orphaned and waiting) or member in waiting
        if not left:
            counts = [len(each.actives) for each in placed.values()]
            assert max(counts) - min(counts) <= 1


def before_actives(before: Shares, member: str) -> set[int]:
    return before[member].actives if member in before else set()


@given(partitions=st.integers(2, 48), workers=st.integers(3, 7), dead=st.integers(0, 6))
def test_the_partitions_of_a_dead_worker_are_spread_over_the_others(
    partitions: int, workers: int, dead: int
) -> None:
    placed = group_of("abcdefg"[:workers], partitions, 1)
    gone = sorted(placed)[dead % workers]
    left = {member: share for member, share in placed.items() if member != gone}
    most = max(len(each.actives) for each in place(left, partitions, 1).values())
    assert most <= ceil(partitions / (workers - 1)) + 1
