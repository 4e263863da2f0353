"""A trial on what a handler really decides: pairs, outcomes, ended sessions and times."""

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.policy_file import default_policy
from clickpath.window import Window
from clickpath.wire import click_to_json
from clickpath.wire.state import UserState
from serving.fake import FakePredictor
from serving.switching import Version
from stream.batch.records import Chunk, RawRecord
from stream.handler import Handler
from stream.models.evidence import LEAST_TIMED, Evidence
from stream.models.record import Guards
from stream.models.trial import Trial
from stream.topics import Topics

ENCODER = Encoder(Window())
POLICY = default_policy()
NOW_MS = simulation.START_MS + 365 * 86_400_000


async def evidence_of(
    candidate: FakePredictor, clicks: int = 12_000, champion: FakePredictor | None = None
) -> Evidence:
    """What a trial knows after so many clicks, in chunks of 100, a sample of each."""
    champion = champion or FakePredictor(ENCODER)
    handler = Handler(
        encoder=ENCODER,
        policy=POLICY,
        predictor=champion,
        topics=Topics(),
        deadline_s=5.0,
        max_future_ms=86_400_000,
    )
    trial = Trial(
        Version(champion), Version(candidate), POLICY, ENCODER, Topics().decisions, 5.0, pause_s=0
    )
    users: dict[bytes, UserState] = {}
    ordered = sorted(simulation.simulate(clicks, clicks // 60, seed=5), key=lambda one: one.ts_ms)
    records = [
        RawRecord(n, 0, each.user_id.encode(), click_to_json(each), ())
        for n, each in enumerate(ordered)
    ]
    for start in range(0, len(records), 100):
        chunk = Chunk("clicks", 0, records[start : start + 100])
        outcome = await handler.handle(chunk, users, NOW_MS)
        users.update(outcome.users)
        trial.after_chunk(0, outcome.outputs, outcome.users)
        await trial.settled()
    return trial.evidence


async def test_a_twin_is_as_good_as_the_champion_in_everything() -> None:
    evidence = await evidence_of(FakePredictor(ENCODER, digest="fa4e000000000001"))
    assert evidence.pairs > 500
    assert evidence.action.outcomes > 300
    assert evidence.purchase.outcomes > 100
    assert evidence.timed >= LEAST_TIMED
    assert 20 < evidence.leave.outcomes < evidence.purchase.outcomes
    assert 0 < evidence.leave.champion_right < evidence.leave.outcomes
    every = (evidence.action, evidence.purchase, evidence.leave)
    assert [each.log_loss_excess for each in every] == [0, 0, 0]
    assert evidence.agreement == 1
    assert evidence.broken(Guards()) is None


async def test_a_candidate_that_is_slower_is_seen_by_its_times_alone() -> None:
    slow = FakePredictor(ENCODER, digest="fa4e000000000001", delay_s=0.02)
    reason = (await evidence_of(slow)).broken(Guards())
    assert "times as long as the champion" in str(reason)


async def test_a_candidate_that_fails_is_not_timed_and_its_failures_count() -> None:
    failing = FakePredictor(ENCODER, digest="fa4e000000000001", failing=lambda call: True)
    evidence = await evidence_of(failing, 3_000)
    assert (evidence.pairs, evidence.timed, evidence.purchase.outcomes) == (0, 0, 0)
    assert "calls failed" in str(evidence.broken(Guards()))


async def test_a_failure_of_the_server_that_both_are_on_is_not_held_against_the_candidate() -> None:
    frozen = iter(())

    def candidate_fails(call: int) -> bool:
        nonlocal frozen
        fails = call % 7 == 6
        frozen = iter([fails])
        return fails

    candidate = FakePredictor(ENCODER, digest="fa4e000000000001", failing=candidate_fails)
    champion = FakePredictor(ENCODER, failing=lambda _: next(frozen, False))
    evidence = await evidence_of(candidate, champion=champion)
    failed = sum(candidate_fails(call) for call in range(len(candidate.batch_sizes)))
    assert failed > 5
    assert (evidence.failures, evidence.calls) == (0, len(candidate.batch_sizes) - failed)
    assert evidence.broken(Guards()) is None
