"""The handler: every record ends in exactly one place, and chunks leave no trace in decisions."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.erasure import Request, request_to_record
from clickpath.policy_file import default_policy
from clickpath.pseudonym import Edge, open_edge, pseudonyms
from clickpath.simulation.faults import (
    FAULTS,
    shuffled_within,
    with_broken,
    with_duplicates,
    with_stragglers,
)
from clickpath.window import Window
from clickpath.wire import click_to_json
from clickpath.wire.state import UserState
from serving.fake import FakePredictor
from stream.batch.records import Chunk, OutputRecord, RawRecord
from stream.cause import cause_of
from stream.handler import Handler
from stream.replay import hash_of_users
from stream.tally import Tally
from stream.topics import Topics

WINDOW = Window()
ENCODER = Encoder(WINDOW)
NOW_MS = simulation.START_MS + 365 * 86_400_000


def handler_with(predictor: FakePredictor | None, edge: Edge = open_edge) -> Handler:
    return Handler(
        encoder=ENCODER,
        policy=default_policy(),
        predictor=predictor,
        topics=Topics(),
        deadline_s=0.05,
        max_future_ms=86_400_000,
        edge=edge,
    )


def records_of(values: Sequence[bytes], first_offset: int = 0) -> list[RawRecord]:
    return [
        RawRecord(offset, 1_000 + offset, b"key", value, (("trace", b"t"),))
        for offset, value in enumerate(values, start=first_offset)
    ]


class Run:
    """A handler with the states that it leaves behind."""

    def __init__(self, handler: Handler, now_ms: int = NOW_MS) -> None:
        self.handler = handler
        self.now_ms = now_ms
        self.users: dict[bytes, UserState] = {}
        self.outputs: list[OutputRecord] = []
        self.tally = Tally()

    async def feed(self, records: Sequence[RawRecord], chunk_size: int) -> None:
        for start in range(0, len(records), chunk_size):
            chunk = Chunk("clicks", 3, records[start : start + chunk_size])
            outcome = await self.handler.handle(chunk, self.users, self.now_ms)
            self.outputs += outcome.outputs
            for key in outcome.erased:
                self.users.pop(key, None)
            self.users.update(outcome.users)
            self.tally.add(outcome.tally)

    def on(self, topic: str) -> list[OutputRecord]:
        return [each for each in self.outputs if each.topic == topic]


@pytest.fixture(scope="module")
def values() -> list[bytes]:
    return [click_to_json(click) for click in simulation.simulate(3_000, 60, seed=1)]


async def run_of(
    values: Sequence[bytes], *, chunk_size: int = 500, predictor: FakePredictor | None = None
) -> Run:
    run = Run(handler_with(predictor or FakePredictor(ENCODER)))
    await run.feed(records_of(values), chunk_size)
    return run


async def test_every_record_is_accounted_for() -> None:
    clicks = with_stragglers(
        simulation.simulate(3_000, 60, seed=1), 0.02, 2 * WINDOW.lateness_ms, seed=1
    )
    clicks = with_duplicates(clicks, 0.1, seed=1)
    sent = list(with_broken((click_to_json(c) for c in clicks), 0.05, 1, tuple(FAULTS)))

    run = await run_of([each.value for each in sent])

    tally = run.tally
    assert tally.events_in == len(sent)
    assert tally.dead_letters.total() == sum(each.code is not None for each in sent) > 100
    assert tally.duplicates > 100
    assert tally.late > 10
    assert len(run.on("clicks.late")) == tally.late
    assert len(run.on("clicks.dead-letter")) == tally.dead_letters.total()
    assert len(run.on("decisions")) == tally.decisions.total() > 100
    assert sum(len(run.on(f"interventions.{k}")) for k in tally.interventions) == (
        tally.interventions.total()
    )
    decided = tally.decisions.total() + sum(
        tally.inference_avoided[reason] for reason in ("not_eligible", "out_of_order")
    )
    assert decided == tally.accepted


async def test_what_is_held_back_is_counted_as_the_decisions_log_it(
    values: Sequence[bytes],
) -> None:
    run = await run_of(values)

    logged = Counter(
        held_back
        for each in run.on("decisions")
        for held_back in json.loads(each.value or b"")["suppressed"].items()
    )
    assert run.tally.held_back == logged
    assert {why for _, why in logged} >= {"cap", "global_cool_down"}


async def test_a_broken_record_is_returned_untouched_with_its_reason_and_origin(
    values: Sequence[bytes],
) -> None:
    sent = list(with_broken(values[:200], 1.0, 5))

    run = await run_of([each.value for each in sent])

    letters = run.on("clicks.dead-letter")
    assert [letter.value for letter in letters] == [each.value for each in sent]
    assert [dict(letter.headers)["clickpath-reason"].decode() for letter in letters] == [
        each.code for each in sent
    ]
    headers = dict(letters[7].headers)
    assert letters[7].key == b"key"
    assert headers["trace"] == b"t"
    assert headers["clickpath-origin-topic"] == b"clicks"
    assert headers["clickpath-origin-partition"] == b"3"
    assert headers["clickpath-origin-offset"] == b"7"


@pytest.mark.parametrize("chunk_size", [1, 7, 3_000])
async def test_where_a_chunk_ends_changes_no_decision(
    values: Sequence[bytes], chunk_size: int
) -> None:
    usual = await run_of(values)
    other = await run_of(values, chunk_size=chunk_size)

    assert other.outputs == usual.outputs
    assert other.users == usual.users


async def test_disorder_within_the_bound_and_copies_change_no_path() -> None:
    clicks = list(simulation.simulate(3_000, 60, seed=2))
    mixed = with_duplicates(shuffled_within(clicks, WINDOW.lateness_ms, 3), 0.1, 3)

    usual = await run_of([click_to_json(click) for click in clicks])
    other = await run_of([click_to_json(click) for click in mixed])

    assert other.tally.late == 0
    assert other.tally.duplicates > 200
    assert hash_of_users(other.users.items()) == hash_of_users(usual.users.items())


async def test_records_that_were_applied_before_a_crash_are_skipped(
    values: Sequence[bytes],
) -> None:
    records = records_of(values)
    run = Run(handler_with(FakePredictor(ENCODER)))
    await run.feed(records[:2_000], 500)
    before: Mapping[bytes, UserState] = dict(run.users)

    await run.feed(records[:2_000], 300)  # the offsets had not been committed

    assert run.users == before
    assert run.tally.skipped == 2_000
    assert run.tally.accepted == 2_000


async def test_a_decision_repeated_from_an_older_state_has_the_same_id_and_content(
    values: Sequence[bytes],
) -> None:
    records = records_of(values)
    run = Run(handler_with(FakePredictor(ENCODER)))
    await run.feed(records[:1_000], 500)
    crashed = dict(run.users)
    await run.feed(records[1_000:], 500)
    first = list(run.outputs)

    again = Run(handler_with(FakePredictor(ENCODER)))
    again.users = crashed
    await again.feed(records[1_000:], 333)

    assert again.outputs == first[len(first) - len(again.outputs) :]


async def test_a_slow_model_leaves_the_decision_to_the_fallback_policy(
    values: Sequence[bytes],
) -> None:
    run = await run_of(values[:600], predictor=FakePredictor(ENCODER, delay_s=5.0))

    decisions = [json.loads(each.value or b"") for each in run.on("decisions")]
    assert run.tally.accepted == 600
    assert run.tally.fallbacks["predictor_timeout"] > 0
    assert {d["fallback"] for d in decisions} == {None, "predictor_timeout"}


async def test_without_a_model_every_event_is_still_handled(values: Sequence[bytes]) -> None:
    run = Run(handler_with(None))
    await run.feed(records_of(values), 500)

    assert run.tally.accepted == len(values)
    assert run.tally.inference_calls == 0
    assert set(run.tally.fallbacks) == {"no_model"}


async def test_only_paths_with_something_eligible_are_scored(values: Sequence[bytes]) -> None:
    run = await run_of(values)

    tally = run.tally
    assert 0 < tally.inference_paths < tally.decisions.total() < tally.accepted
    assert tally.inference_paths + tally.inference_avoided.total() == tally.accepted


async def test_a_large_chunk_asks_in_several_calls_and_stops_asking_after_one_that_fails() -> None:
    values = [click_to_json(click) for click in simulation.simulate(16_000, 400, seed=2)]
    good, bad = FakePredictor(ENCODER), FakePredictor(ENCODER, failing=lambda call: call == 1)

    whole = await run_of(values, chunk_size=len(values), predictor=good)
    cut = await run_of(values, chunk_size=len(values), predictor=bad)

    assert len(good.batch_sizes) > 2
    assert max(good.batch_sizes) == 1_024
    assert sum(good.batch_sizes) == whole.tally.inference_paths
    assert bad.batch_sizes == [1_024, 1_024]
    assert cut.tally.fallbacks.total() > 0
    scored = [json.loads(each.value)["scores"] is not None for each in cut.on("decisions")]
    assert 0 < sum(scored) <= 1_024


async def test_with_a_key_nothing_that_leaves_knows_a_user_by_the_id() -> None:
    clicks = list(simulation.simulate(3_000, 60, seed=1))
    plain = await run_of([click_to_json(click) for click in clicks])
    ids = {click.user_id for click in clicks}
    edge = pseudonyms(b"0123456789abcdef")
    broken = [click_to_json(clicks[0])[:-1], click_to_json(replace(clicks[0], event_id="old"))]

    run = Run(handler_with(FakePredictor(ENCODER), edge))
    await run.feed(records_of([*map(click_to_json, clicks), *broken]), 500)

    assert run.tally.accepted == plain.tally.accepted
    assert set(run.users) == {edge(user_id).encode() for user_id in ids}
    assert (len(run.on("clicks.dead-letter")), len(run.on("clicks.late"))) == (1, 1)
    for output in run.outputs:
        everything = repr(output)
        assert not any(f'"{user_id}"' in everything for user_id in ids)
    for letter in (*run.on("clicks.dead-letter"), *run.on("clicks.late")):
        assert (letter.key, letter.value) == (None, b"")
        names = [name for name, _ in letter.headers]
        assert "clickpath-origin-offset" in names
        assert "trace" not in names


async def test_an_id_and_its_pseudonym_are_one_user_also_within_a_chunk() -> None:
    edge = pseudonyms(b"0123456789abcdef")
    clicks = list(simulation.simulate(200, 3, seed=1))
    mixed = [
        replace(click, user_id=edge(click.user_id)) if n % 2 else click
        for n, click in enumerate(clicks)
    ]
    expected = Run(handler_with(FakePredictor(ENCODER), edge))
    await expected.feed(records_of([click_to_json(click) for click in clicks]), 50)

    run = Run(handler_with(FakePredictor(ENCODER), edge))
    await run.feed(records_of([click_to_json(click) for click in mixed]), 50)

    assert run.users == expected.users


async def test_only_a_letter_that_may_hold_personal_data_is_given_back_by_reference(
    values: Sequence[bytes],
) -> None:
    personal = json.dumps({"event_id": "e", "user_id": 7, "note": "bob@example.com"}).encode()

    run = await run_of([personal, b'{"event_id":"e","user_id":7}'])

    left_out, kept = run.on("clicks.dead-letter")
    assert (left_out.key, left_out.value) == (None, b"")
    assert dict(left_out.headers)["clickpath-origin-offset"] == b"0"
    assert "clickpath-left-out" not in dict(kept.headers)
    assert (kept.key, kept.value, kept.headers[0]) == (
        b"key",
        b'{"event_id":"e","user_id":7}',
        ("trace", b"t"),
    )


async def test_an_erasure_has_its_place_among_the_clicks_however_they_are_cut_into_chunks(
    values: Sequence[bytes],
) -> None:
    user_id = json.loads(values[0])["user_id"]
    asked = [request_to_record(Request(step, user_id)) for step in ("erase", "forget")]
    requests = [RawRecord(0, 1_000, None, value, headers) for value, headers in asked]
    clicks = records_of(values)
    order = [*clicks[:1_000], requests[0], *clicks[1_000:1_200], requests[1], *clicks[1_200:]]
    records = [record._replace(offset=n) for n, record in enumerate(order)]
    behind = Run(handler_with(FakePredictor(ENCODER)))
    await behind.feed(records[1_001:], 500)

    runs = [Run(handler_with(FakePredictor(ENCODER))) for _ in range(3)]
    for run, size in zip(runs, (1, 500, 5_000), strict=True):
        await run.feed(records, size)
        assert run.users[user_id.encode()].path == behind.users[user_id.encode()].path
        assert run.tally.erasures == 2
        assert run.tally.accepted == len(values)
        erased, forgotten = (json.loads(each.value or b"") for each in run.on("erasures"))
        assert (erased["step"], erased["found"], erased["offset"]) == ("erase", True, 1_000)
        assert (forgotten["step"], forgotten["offset"]) == ("forget", 1_201)
        assert [each.key for each in run.on("decisions") if each.value is None] == [
            user_id.encode()
        ]
        # A tombstone lies behind the decisions that it is about, and before all others.
        about = [each for each in run.on("decisions") if each.key == user_id.encode()]
        causes = [cause_of(each.headers) for each in about]
        assert causes == sorted(causes)
        assert [cause for each, cause in zip(about, causes, strict=True) if each.value is None] == [
            (3, 1_000)
        ]
        assert 0 < causes.index((3, 1_000)) < len(causes) - 1
    assert runs[0].users == runs[1].users == runs[2].users


async def test_a_user_from_before_such_ids_were_refused_is_erased_too(
    values: Sequence[bytes],
) -> None:
    run = Run(handler_with(None))
    await run.feed(records_of(values[:50]), 50)
    mail = b"jan@example.com"
    run.users[mail] = next(state for state in run.users.values() if state.path.steps)

    requests = (Request("erase", mail.decode()), Request("forget", mail.decode()))
    for offset, request in enumerate(requests, start=1_000):
        value, headers = request_to_record(request)
        await run.feed([RawRecord(offset, 0, None, value, headers)], 1)
    assert mail not in run.users
    assert [json.loads(each.value or b"")["found"] for each in run.on("erasures")] == [True, True]


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
async def test_who_came_back_and_is_erased_again_within_a_chunk_is_gone(
    values: Sequence[bytes], chunk_size: int
) -> None:
    user_id = json.loads(values[0])["user_id"]
    mine = [value for value in values if json.loads(value)["user_id"] == user_id][:6]
    erase, forget = (
        RawRecord(0, 1_000, None, *request_to_record(Request(step, user_id)))
        for step in ("erase", "forget")
    )
    first, second = records_of(mine[:3]), records_of(mine[3:])
    records = [*first, erase, forget, *second, erase, forget]
    run = Run(handler_with(None))
    await run.feed([each._replace(offset=n) for n, each in enumerate(records)], chunk_size)

    assert run.users == {}
    receipts = [json.loads(each.value or b"") for each in run.on("erasures")]
    assert [each["found"] for each in receipts] == [True] * 4
    assert [each["events"] for each in receipts if each["step"] == "erase"] == [3, 3]


async def test_what_only_looks_like_a_request_is_a_dead_letter() -> None:
    value, headers = request_to_record(Request("erase", "u"))
    run = Run(handler_with(None))
    await run.feed(
        [
            RawRecord(0, 0, None, value, ()),
            RawRecord(1, 0, None, b"[]", headers),
            RawRecord(2, 0, None, value, ((headers[0][0], b"all"),)),
            RawRecord(3, 0, None, rb'{"erase":"\ud800"}', headers),
            RawRecord(4, 0, None, request_to_record(Request("erase", ""))[0], headers),
            RawRecord(5, 0, None, request_to_record(Request("erase", "u" * 257))[0], headers),
            RawRecord(6, 0, None, b"[" * 200_000, headers),
        ],
        10,
    )
    assert run.tally.dead_letters.total() == 7
    assert run.tally.erasures == 0
    assert {each.topic for each in run.outputs} == {"clicks.dead-letter"}
