"""Odd input has a defined answer: docs/operations.md says which, and each row is held here."""

from dataclasses import replace

from clickpath import simulation
from clickpath.wire import click_to_json
from clickpath.wire.state import dump_user
from tests.stream.test_handler import WINDOW, Run, handler_with, records_of

HOUR_MS = 3_600_000


async def test_a_chunk_of_broken_records_is_given_back_and_the_next_one_handled() -> None:
    good = [click_to_json(click) for click in simulation.simulate(200, 5, seed=1)]
    run = Run(handler_with(None))
    await run.feed(records_of([b"\xff\x00{" * n for n in range(1, 2_001)]), 2_000)
    await run.feed(records_of(good, first_offset=2_000), 200)

    assert run.tally.dead_letters.total() == len(run.on("clicks.dead-letter")) == 2_000
    assert run.tally.accepted == 200
    assert len(run.users) <= 5


async def test_one_user_with_most_of_the_events_keeps_a_state_of_bounded_size() -> None:
    """All of them within the lateness bound, so that only the limit on pending steps helps."""
    [click] = list(simulation.simulate(1, 1, seed=1))
    clicks = [
        replace(click, event_id=f"e-{n}", ts_ms=click.ts_ms + n, action="other", type_name="x")
        for n in range(20_000)
    ]
    sizes = []
    run = Run(handler_with(None))
    for begin in range(0, len(clicks), 5_000):
        some = [click_to_json(each) for each in clicks[begin : begin + 5_000]]
        await run.feed(records_of(some, first_offset=begin), 5_000)
        [state] = run.users.values()
        sizes.append(len(dump_user(state)))

    assert run.tally.accepted == len(clicks)
    assert max(sizes) - min(sizes) < 100
    assert len(state.path.steps) <= WINDOW.pending_limit + WINDOW.steps


async def test_a_clock_that_jumped_ahead_makes_late_what_follows_of_that_user_alone() -> None:
    first, *others = list(simulation.simulate(400, 8, seed=3))
    now_ms = others[-1].ts_ms
    ahead = replace(first, event_id="ahead", ts_ms=now_ms + 20 * HOUR_MS)
    beyond = replace(first, event_id="beyond", ts_ms=now_ms + 25 * HOUR_MS)
    run = Run(handler_with(None), now_ms)
    await run.feed(records_of([click_to_json(each) for each in (ahead, beyond, *others)]), 100)

    assert run.tally.dead_letters == {"future_timestamp": 1}
    assert run.tally.late == sum(each.user_id == first.user_id for each in others) > 0
    assert run.tally.accepted == 1 + len(others) - run.tally.late


async def test_a_clock_that_jumped_back_makes_late_what_is_behind_the_bound_and_nothing_else() -> (
    None
):
    first, *others = list(simulation.simulate(400, 8, seed=3))
    back_ms = WINDOW.lateness_ms + 1
    newest = others[-1]
    behind = replace(newest, event_id="behind", ts_ms=newest.ts_ms - back_ms)
    within = replace(newest, event_id="within", ts_ms=newest.ts_ms - back_ms + 1)
    run = Run(handler_with(None))
    sent = [click_to_json(each) for each in (first, *others, behind, within)]
    await run.feed(records_of(sent), 100)

    assert run.tally.late == 1
    assert [each.value for each in run.on("clicks.late")] == [click_to_json(behind)]
    assert run.tally.accepted == len(sent) - 1


async def test_the_clock_of_a_worker_decides_nothing_but_what_is_ahead_of_it() -> None:
    clicks = list(simulation.simulate(600, 12, seed=3))
    sent = records_of([click_to_json(each) for each in clicks])
    now_ms = clicks[-1].ts_ms
    right, ahead, behind = (
        Run(handler_with(None), now_ms + days * 24 * HOUR_MS) for days in (0, 400, -2)
    )
    for run in (right, ahead, behind):
        await run.feed(sent, 100)
    assert (ahead.outputs, ahead.users) == (right.outputs, right.users)

    # A clock that is too slow gives back what seems to be of the future; it comes again by `dlq`.
    refused = behind.tally.dead_letters["future_timestamp"]
    assert refused == behind.tally.dead_letters.total() > 0
    behind.now_ms = now_ms
    again = [each.value or b"" for each in behind.on("clicks.dead-letter")]
    await behind.feed(records_of(again, first_offset=len(sent)), 100)
    assert behind.tally.accepted == len(clicks)
    paths = {user: state.path for user, state in right.users.items()}
    assert {user: state.path for user, state in behind.users.items()} == paths
