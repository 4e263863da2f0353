"""The outcome of a session: the trainer's label, known at its end, in bounded memory."""

import random
from collections.abc import Iterable

import pytest

from clickpath import simulation
from clickpath.ids import event_hash
from clickpath.ledger import EMPTY_LEDGER
from clickpath.steps import UNKNOWN_PRICE, Step, step_of
from clickpath.vocabulary import ACTION_ID
from clickpath.window import EMPTY_PATH, PathState, Window, push_step
from clickpath.wire.state import UserState
from stream.models.sessions import Said, Sessions
from training.labels import HEADS, labels_of

WINDOW = Window()
GAP_MS, SILENCE_MS = WINDOW.session_gap_ms, WINDOW.session_gap_ms + WINDOW.lateness_ms
PURCHASE, LEAVE = ([head.name for head in HEADS].index(name) for name in ("purchase", "leave"))


def step(at_ms: int, action: str = "view_item") -> Step:
    event = event_hash(f"{at_ms}{action}")
    return Step(at_ms, event, ACTION_ID[action], 0, 0, UNKNOWN_PRICE, 0, ())


def path_of(*steps: Step, before: PathState = EMPTY_PATH) -> PathState:
    for each in steps:
        before, _ = push_step(before, each, WINDOW)
    return before


class Watched:
    """Sessions whose ends are written down: what the champion said of each, and what came.

    Attributes:
        ends: Whether a purchase came.
        lefts: Whether nothing did.
    """

    def __init__(self, most: int = 1_000) -> None:
        self.ends: list[tuple[float, bool]] = []
        self.lefts: list[tuple[float, bool]] = []
        self.sessions = Sessions(
            WINDOW,
            lambda ours, _, bought: self.ends.append((ours, bought)),
            lambda ours, _, left: self.lefts.append((ours, left)),
            most,
        )
        self.paths: dict[bytes, PathState] = {}

    def wait(self, user: str, *steps: Step, partition: int = 0, said: float = 0.5) -> None:
        key = user.encode()
        path = self.paths[key] = path_of(*steps, before=self.paths.get(key, EMPTY_PATH))
        self.sessions.wait(partition, key, path)
        both = Said(said, 0.5)
        event = path.tip.last_event
        self.sessions.scored(partition, key, event, purchase=both)
        self.sessions.scored(partition, key, event, leave=both)

    def chunk(self, *users: tuple[str, Iterable[Step]], partition: int = 0) -> None:
        states = {}
        for user, steps in users:
            key = user.encode()
            path = self.paths[key] = path_of(*steps, before=self.paths.get(key, EMPTY_PATH))
            states[key] = UserState(0, path, EMPTY_LEDGER)
        self.sessions.after_chunk(partition, states, ())

    def at(self, time_ms: int, partition: int = 0) -> None:
        """A chunk of others, to whom it is so late."""
        others = [(f"other {partition} {n}", [step(time_ms)]) for n in range(3)]
        self.chunk(*others, partition=partition)


def test_outcomes_are_the_labels_that_the_trainer_learns_from() -> None:
    clicks = sorted(simulation.simulate(12_000, 120, seed=11), key=lambda each: each.ts_ms)
    every: dict[str, list[Step]] = {}
    luck, watched, asked = random.Random(3), Watched(), dict[float, tuple[str, int]]()
    for start in range(0, len(clicks), 40):
        chunk: dict[str, list[Step]] = {}
        for click in clicks[start : start + 40]:
            chunk.setdefault(click.user_id, []).append(step_of(click))
        watched.chunk(*chunk.items())
        for user, steps in chunk.items():
            every.setdefault(user, []).extend(steps)
            if luck.random() < 0.3 and user.encode() not in watched.sessions._open.get(0, {}):
                asked[float(len(asked))] = user, steps[-1].event
                watched.wait(user, said=len(asked) - 1)
    until_ms = clicks[-1].ts_ms + 30 * 86_400_000
    watched.at(until_ms)
    labels = {
        (user, each.event): of
        for user, steps in every.items()
        for each, of in zip(steps, labels_of(steps, until_ms, GAP_MS), strict=True)
    }
    assert len(watched.sessions) == 0
    for head, ends in ((PURCHASE, watched.ends), (LEAVE, watched.lefts)):
        came = dict(ends)
        assert len(came) > 0.95 * len(asked) > 200
        assert {said: labels[asked[said]][head] for said in came} == came
        assert 3 < sum(came.values()) < len(came)


def test_a_yes_is_told_no_earlier_than_a_no() -> None:
    watched = Watched()
    watched.wait("buyer", step(0))
    watched.wait("looker", step(0))
    watched.chunk(("buyer", [step(60_000, "purchase")]), ("looker", [step(60_000)]))
    watched.at(60_000 + SILENCE_MS - 1)
    assert watched.ends == []
    watched.at(60_000 + SILENCE_MS)
    assert sorted(watched.ends) == [(0.5, False), (0.5, True)]


def test_a_new_session_of_the_user_ends_the_one_before_and_its_purchases_do_not_count() -> None:
    watched = Watched()
    watched.wait("u", step(0))
    watched.chunk(("u", [step(GAP_MS + 1, "purchase")]))
    assert watched.ends == [(0.5, False)]


def test_she_left_if_nothing_came_after_the_scored_event_in_its_session() -> None:
    watched = Watched()
    for n, user in enumerate(("leaves", "stays", "comes again", "stays and comes again")):
        watched.wait(user, step(0), step(1_000), said=n / 10)
    again = 2_000 + GAP_MS
    watched.chunk(
        ("stays", [step(2_000)]),
        ("leaves", [step(500, "search")]),  # it is late, and was before
        ("comes again", [step(again)]),
        ("stays and comes again", [step(2_000), step(again)]),
    )
    watched.at(2_000 + SILENCE_MS)
    assert dict(watched.lefts) == {0.0: True, 0.1: False, 0.2: True, 0.3: False}


def test_what_only_one_model_says_of_the_end_is_not_told() -> None:
    watched = Watched()
    path = path_of(step(0))
    watched.sessions.wait(0, b"u", path)
    watched.sessions.scored(0, b"u", path.tip.last_event, purchase=Said(0.2, 0.3))
    watched.at(2 * SILENCE_MS)
    assert (watched.ends, watched.lefts) == ([(0.2, False)], [])


def test_a_purchase_before_the_scored_event_does_not_count() -> None:
    watched = Watched()
    watched.wait("u", step(0, "purchase"), step(1_000))
    watched.at(SILENCE_MS + 1_000)
    assert watched.ends == [(0.5, False)]


def test_a_worker_that_is_behind_sees_no_silence_where_events_still_wait() -> None:
    watched = Watched()
    watched.wait("u", step(0))
    watched.at(10 * SILENCE_MS, partition=1)  # another partition is up to date
    watched.at(1_000)
    assert watched.ends == []
    watched.chunk(("u", [step(2_000, "purchase")]))
    watched.at(2 * SILENCE_MS)
    assert watched.ends == [(0.5, True)]


def test_one_user_with_a_wrong_clock_ends_nobodys_session() -> None:
    watched = Watched()
    watched.wait("u", step(0))
    watched.chunk(("a", [step(1_000)]), ("b", [step(1_500)]), ("wrong", [step(9 * SILENCE_MS)]))
    assert watched.ends == []


def test_memory_is_bounded_and_whoever_waits_is_not_put_out() -> None:
    watched = Watched(most=10)
    for n in range(50):
        watched.wait(f"user {n}", step(n), said=n / 100)
    assert len(watched.sessions) == 10
    watched.at(SILENCE_MS + 50)
    assert [said for said, _ in watched.ends] == [n / 100 for n in range(10)]
    watched.wait("user 50", step(SILENCE_MS + 100))
    assert len(watched.sessions) == 1


def test_one_decision_of_a_session_waits() -> None:
    watched = Watched()
    watched.wait("u", step(0), said=0.1)
    watched.wait("u", step(1_000), said=0.9)
    watched.at(2 * SILENCE_MS)
    assert watched.ends == [(0.1, False)]


def test_what_was_never_scored_by_both_is_not_told() -> None:
    watched = Watched()
    watched.sessions.wait(0, b"u", path_of(step(0)))
    watched.at(2 * SILENCE_MS)
    assert watched.ends == []
    assert len(watched.sessions) == 0


@pytest.mark.parametrize("how", ["erased", "partition gone"])
def test_who_is_erased_or_handled_elsewhere_is_forgotten(how: str) -> None:
    watched = Watched()
    watched.wait("u", step(0))
    if how == "erased":
        watched.sessions.after_chunk(0, {}, (b"u",))
    else:
        watched.sessions.keep({1, 2})
    assert len(watched.sessions) == 0
    watched.at(2 * SILENCE_MS)
    assert watched.ends == []
