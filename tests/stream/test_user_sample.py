"""A sample of users keeps all of those who are in it, and never more than it may."""

import random

import pytest

from stream.user_sample import OF_USER, UserSample


def things(users: int, each: int, seed: int = 1) -> list[tuple[str, int]]:
    found = [(f"user {n}", thing) for n in range(users) for thing in range(each)]
    random.Random(seed).shuffle(found)
    return found


def filled(most: int, given: list[tuple[str, int]]) -> UserSample[int]:
    sample = UserSample[int](most)
    for user, thing in given:
        sample.add(user, thing)
        assert len(sample) <= most
    return sample


def test_what_fits_is_kept_whole_and_in_order() -> None:
    given = things(50, 10)
    sample = filled(500, given)
    assert sample.share == 1
    assert sample.by_user == {
        user: [thing for other, thing in given if other == user] for user, _ in given
    }


@pytest.mark.parametrize("seed", range(5))
def test_of_users_who_stay_everything_is_kept_whenever_the_others_were_forgotten(
    seed: int,
) -> None:
    sample = filled(1_000, things(2_000, 5, seed))
    assert sample.share == 1 / 16
    assert len(sample) > 400
    assert {len(kept) for kept in sample.by_user.values()} == {5}
    assert {*sample.by_user} == {f"user {n}" for n in range(2_000) if sample.has(f"user {n}")}


def test_samples_of_different_size_hold_the_same_users_so_that_they_can_be_joined() -> None:
    large, small = filled(4_000, things(2_000, 5)), filled(500, things(2_000, 5))
    assert {*small.by_user} < {*large.by_user}


def test_one_busy_user_does_not_push_the_others_out() -> None:
    given = [("bot", n) for n in range(20 * OF_USER)] + things(100, 5)
    sample = filled(2 * OF_USER, given)
    assert sample.share == 1
    assert len(sample.by_user["bot"]) == OF_USER
    assert len(sample.by_user) == 101
