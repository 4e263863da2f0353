"""What an erasure leaves on topics, and how long, is what its receipt says."""

import json
from dataclasses import replace

import pytest

from clickpath import simulation
from clickpath.logs import RawLine
from clickpath.policy import KINDS
from clickpath.wire import click_to_json
from stream.wiring import make_edge
from tests.kafka.marks import on_both_brokers
from tests.promises.shop import PARTITIONS, lines_of
from tests.promises.test_dead_letters import run_command

pytestmark = [pytest.mark.broker, pytest.mark.slow, on_both_brokers]

USER = "zebra-canary-4711"


def clicks_of_all() -> list[RawLine]:
    """Clicks of some users, and of one a dead letter and a late event, too."""
    clicks = list(simulation.simulate(800, 20, seed=7))
    first = clicks[0].user_id
    clicks = [replace(each, user_id=USER) if each.user_id == first else each for each in clicks]
    last = [each for each in clicks if each.user_id == USER][-1]
    late = replace(last, event_id="late", ts_ms=last.ts_ms - 10**9)
    broken = {**json.loads(click_to_json(last)), "ts_ms": "soon"}
    return [
        *lines_of([*clicks, late]),
        RawLine(USER.encode(), json.dumps(broken).encode(), (), ""),
    ]


@pytest.mark.parametrize("with_key", [False, True], ids=["no-key", "key"])
async def test_what_the_receipt_says_is_kept_elsewhere_lies_there_and_for_so_long(
    make_shop, running, monkeypatch, capsys, tmp_path, with_key
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"a key that is long enough")
    sealed = {"pseudonym_key_file": str(key)} if with_key else {}
    shop = await make_shop(session_timeout_s="3", commit_interval_s="0.3", **sealed)
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    settings = shop.settings
    configs = settings.topics.configs()
    kept = [name for name in configs if "retention.ms" in configs[name]]
    pseudonym = make_edge(settings)(USER)

    async def naming(user: str) -> dict[str, int]:
        """How many records of each topic name the user."""
        return {name: sum(user in repr(each) for each in await shop.on(name)) for name in kept}

    lines = clicks_of_all()
    mine = sum(line.key == USER.encode() for line in lines)
    worker = await running(shop)
    await shop.produce(lines)
    await shop.handled(worker)
    before = await naming(pseudonym)
    brokers = ["--bootstrap-servers", settings.bootstrap_servers, "--json"]
    assert await run_command("erase", USER, *brokers) == 0
    receipt = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert await worker.stop() == 0

    # Every topic that holds something of the user is named, with the retention that it has.
    said = receipt["kept_elsewhere_ms"]
    assert {name: said[name] for name in kept} == {
        name: int(configs[name]["retention.ms"]) for name in kept
    }
    # Nothing is gone from them: that is why they are named.
    after = await naming(pseudonym)
    assert all(after[name] >= before[name] for name in kept)
    assert before[settings.decisions_topic] > 0
    assert sum(before[settings.topics.of_kind(kind)] for kind in KINDS) > 0
    # The clicks lie there as they came; so do the requests, which name the user as the edge does.
    raw = await naming(USER)
    assert raw[settings.clicks_topic] == mine + (0 if with_key else 2 * PARTITIONS)
    # Dead letters and late events are the user's bytes, or with a key only say where those lie.
    given_back = (settings.dead_letter_topic, settings.late_topic)
    assert [raw[name] for name in given_back] == ([0, 0] if with_key else [1, 1])
    assert [len(await shop.on(name)) for name in given_back] == [1, 1]
    if with_key:
        assert {name for name in kept if raw[name]} == {settings.clicks_topic}
