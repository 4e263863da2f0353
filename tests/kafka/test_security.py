"""Users, TLS and access rules: what is documented is enough, and what is refused is said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from clickpath import simulation
from clickpath.logs import RawLine
from stream.process import WorkerProcess
from tests.kafka.guarded import Guarded, Rule, documented_rules
from tests.kafka.marks import started_or_skipped
from tests.promises.shop import Shop, lines_of, names_of_its_own

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_EVENTS = 1_500
_WORKER = "User:worker"
_PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A broker with users, certificates and rules."""
    guarded = Guarded(tmp_path_factory.mktemp("guarded"))
    for _ in started_or_skipped(guarded.kafka):
        yield guarded


@pytest.fixture
async def shop(guarded: Guarded, tmp_path: Path) -> Shop:
    """Topics with events on them, made by the tests' own hand."""
    environ = {**names_of_its_own(), "CLICKPATH_MODEL": "none"}
    shop = Shop(guarded.kafka.bootstrap_servers, tmp_path, environ)
    await shop.create_topics()
    await shop.produce(lines_of(simulation.simulate(_EVENTS, 100, seed=3)))
    await shop.produce([RawLine(b"somebody", b"no event", (), "")] * 3)
    return shop


def rules_of(shop: Shop) -> list[Rule]:
    """The documented rules, for the names of this shop."""
    names = {
        "clickpath": shop.settings.app_id,
        "clickpath-": f"{shop.settings.app_id}-",
        "interventions.": f"{shop.settings.interventions_topic}.",
        "clickpath-users-changelog": shop.settings.topics.changelog,
        "clicks": shop.settings.clicks_topic,
        "decisions": shop.settings.decisions_topic,
        "clicks.dead-letter": shop.settings.dead_letter_topic,
        "clicks.late": shop.settings.late_topic,
        "erasures": shop.settings.erasures_topic,
    }
    return [each._replace(name=names[each.name]) for each in documented_rules(_PAGE)]


def guarded_worker(
    guarded: Guarded, shop: Shop, tmp_path: Path, environ: Mapping[str, str]
) -> WorkerProcess:
    return WorkerProcess(
        environ["CLICKPATH_BOOTSTRAP_SERVERS"],
        tmp_path / "guarded.log",
        {**shop.environ, **environ, "CLICKPATH_COMMIT_INTERVAL_S": "0.2"},
    )


@pytest.mark.parametrize(
    ("listener", "delivery"),
    [
        ("users", "at-least-once"),
        ("users", "transactional"),
        ("certificates", "at-least-once"),
    ],
)
async def test_a_worker_works_with_the_documented_rules_and_no_others(
    guarded: Guarded, shop: Shop, tmp_path: Path, listener: str, delivery: str
) -> None:
    guarded.allow(_WORKER, rules_of(shop))
    environ = {**guarded.environ(listener), "CLICKPATH_DELIVERY": delivery}
    worker = guarded_worker(guarded, shop, tmp_path, environ)
    await worker.start()
    try:
        await worker.wait_ready(120)
        await shop.handled(worker)
        assert await worker.stop() == 0
    finally:
        await worker.kill()
    assert len(await shop.on(shop.settings.dead_letter_topic)) == 3
    assert len(await shop.interventions()) > 5


@pytest.mark.parametrize(
    ("missing", "about"),
    [
        (Rule("TOPIC", "clicks", "READ"), "topic {0.clicks_topic}"),
        (Rule("TOPIC", "interventions.", "WRITE"), "topic {0.interventions_topic}."),
        (Rule("TOPIC", "clickpath-users-changelog", "READ"), "topic {0.topics.changelog}"),
        (Rule("TOPIC", "clickpath-users-changelog", "WRITE"), "topic {0.topics.changelog}"),
        (
            Rule("TOPIC", "clickpath-users-changelog", "DESCRIBE_CONFIGS"),
            "settings of {0.topics.changelog}",
        ),
        (Rule("GROUP", "clickpath", "READ"), "group {0.app_id}"),
        (Rule("TRANSACTIONAL_ID", "clickpath-", "WRITE"), "transactional id"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, Rule) else "",
)
async def test_a_missing_rule_ends_the_worker_with_a_sentence_that_names_it(
    guarded: Guarded, shop: Shop, tmp_path: Path, missing: Rule, about: str
) -> None:
    documented = documented_rules(_PAGE)
    assert missing in documented
    rules = zip(documented, rules_of(shop), strict=True)
    guarded.allow(_WORKER, [ours for rule, ours in rules if rule != missing])
    delivery = "transactional" if missing.resource == "TRANSACTIONAL_ID" else "at-least-once"
    worker = guarded_worker(
        guarded, shop, tmp_path, {**guarded.environ(), "CLICKPATH_DELIVERY": delivery}
    )
    await worker.start()
    try:
        code = await asyncio.wait_for(worker.wait(), 120)
    finally:
        await worker.kill()
    [last] = worker.log_tail(1).splitlines()
    assert code != 0
    assert "an ACL is missing" in last
    assert about.format(shop.settings) in last


@pytest.mark.parametrize(
    ("command", "listener", "changed", "sentence"),
    [
        (
            "worker",
            "users",
            {"sasl_password_file": "wrong-password"},
            "does not take the user 'worker'",
        ),
        ("state", "users", {"sasl_username": "nobody"}, "does not take the user 'nobody'"),
        ("worker", "users", {"ssl_ca_file": "other-ca.pem"}, "is not trusted"),
        ("state", "users", {"sasl_mechanism": "SCRAM-SHA-256"}, "does not know SCRAM-SHA-256"),
        (
            "state",
            "users",
            {"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": ""},
            "CLICKPATH_SECURITY_PROTOCOL is SASL_PLAINTEXT",
        ),
        (
            "worker",
            "certificates",
            {"ssl_cert_file": "", "ssl_key_file": ""},
            "needs CLICKPATH_SSL_CERT_FILE",
        ),
    ],
)
async def test_what_the_broker_refuses_is_one_sentence(
    guarded: Guarded, command: str, listener: str, changed: dict[str, str], sentence: str
) -> None:
    files = {name: guarded.folder / value for name, value in changed.items() if "_file" in name}
    changed = {**changed, **{name: str(files[name]) for name in files if changed[name]}}
    arguments = {"worker": ["worker", "--model", "none", "--web-port", "0"]}
    code, out, said = await run_command(
        guarded.environ(listener, **changed), *arguments.get(command, ["state", "hash"])
    )
    assert code == 2, said
    last = said.splitlines()[-1]
    assert last.startswith("clickpath: ")
    assert sentence in last
    assert "Traceback" not in said
    assert out == ""


async def test_every_command_reaches_a_broker_with_users_and_tls(
    guarded: Guarded, tmp_path: Path
) -> None:
    names = names_of_its_own()
    app_id = names["CLICKPATH_APP_ID"]
    operations = ("CREATE", "READ", "WRITE", "DESCRIBE_CONFIGS")
    rules = [Rule("TOPIC", f"{app_id}{end}", each) for end in ".-" for each in operations]
    rules += [Rule("GROUP", app_id, "READ"), Rule("GROUP", f"{app_id}-", "READ")]
    guarded.allow("User:operator", rules)
    environ = {**guarded.environ(sasl_username="operator"), **names, "CLICKPATH_MODEL": "none"}
    servers = environ["CLICKPATH_BOOTSTRAP_SERVERS"]

    async def run(*arguments: str) -> dict[str, object]:
        code, out, said = await run_command(environ, *arguments, "--json")
        assert code == 0, said
        result: dict[str, object] = json.loads(out.splitlines()[-1])
        return result

    assert await run("topics", "create")
    clicks = tmp_path / "clicks.jsonl"
    await run("simulate", "--events", "500", "--out", str(clicks))
    assert (await run("produce", str(clicks)))["events"] == 500
    assert (await run("simulate", "--events", "500", "--bootstrap-servers", servers))[
        "events"
    ] == 500
    assert (await run("archive", "--once", "--to", str(tmp_path / "archive")))["clicks"] == 500
    worker = WorkerProcess(servers, tmp_path / "log", environ)
    await worker.start()
    try:
        await worker.wait_ready(120)
        handled = 0.0
        async with asyncio.timeout(120):
            while handled < 1_000:
                samples = await worker.samples()
                handled = sum(v for (name, _), v in samples.items() if name == "events_total")
        assert await worker.stop() == 0
    finally:
        await worker.kill()
    assert int(str((await run("state", "hash"))["users"])) > 10
    assert (await run("dlq", "list"))["dead_letters"] == 0


async def run_command(environ: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """A command in a process of its own: exit code, what it printed, what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "clickpath", *arguments),
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, said = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, out.decode(), said.decode()
