"""Erasure and training: what is trained behind the receipt is what it would be without the user."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clickpath import simulation
from clickpath.wire import click_to_json
from stream.wiring import make_edge
from tests.promises.shop import lines_of
from tests.promises.test_dead_letters import run_command
from training.build import build
from training.corpus import corpus_at
from training.dataset import Dataset
from training.examples import PARTS, user_hash
from training.run import EXAMPLES_FOLDER
from training.spill import COLUMNS, USER

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def users_in(dataset: Dataset) -> set[int]:
    batches = (batch for name in PARTS for batch in dataset.part(name).batches(1_000))
    return {int(user) for batch in batches for user in batch.users}


def spilt_users(folder: Path) -> set[int]:
    """The users in the buckets of a build that is under way."""
    files = [each for each in folder.glob(".buckets-*/*") if each.is_file()]
    return {
        int(row[USER])
        for each in files
        for row in np.fromfile(each, np.int64).reshape(-1, len(COLUMNS))
    }


async def test_after_an_erasure_a_training_is_the_one_of_the_other_users_alone(
    make_shop, running, monkeypatch, capsys, tmp_path
) -> None:
    archive, key = tmp_path / "archive", tmp_path / "key"
    key.write_bytes(b"a key that is long enough")
    shop = await make_shop(
        model="none",
        session_timeout_s="3",
        commit_interval_s="0.3",
        archive=str(archive),
        archive_flush_s="0.5",
        pseudonym_key_file=str(key),
    )
    for name, value in shop.environ.items():
        monkeypatch.setenv(name, value)
    clicks = list(simulation.simulate(2_000, 40, seed=7))
    user, mine = Counter(click.user_id for click in clicks).most_common(1)[0]
    edge = make_edge(shop.settings)
    pseudonym = edge(user)
    brokers = ["--bootstrap-servers", shop.settings.bootstrap_servers, "--json"]

    worker = await running(shop)
    await shop.produce(lines_of(clicks))
    await shop.handled(worker)
    assert await run_command("erase", user, *brokers) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["events"] == mine
    assert await worker.stop() == 0

    # The files still hold the rows: read as files and no archive, they show what is looked for.
    whole = build(corpus_at(str(archive / "clicks"), "parquet"), tmp_path / "whole")
    assert user_hash(pseudonym) in users_in(whole)

    # While it is built, the user is in no file of it, either.
    spilt: list[set[int]] = []
    folder = tmp_path / "built"
    corpus = corpus_at(str(archive), "archive")
    built = build(corpus, folder, say=lambda _: spilt.append(spilt_users(folder)))
    assert len(spilt[-1]) == len({click.user_id for click in clicks}) - 1
    assert user_hash(pseudonym) not in spilt[-1]
    assert built.manifest.clicks.dropped["refused_erased"] == mine

    # Nor did the user leave a trace in what others are shown, or in where the parts begin.
    others = tmp_path / "others.jsonl"
    rest = [replace(each, user_id=edge(each.user_id)) for each in clicks if each.user_id != user]
    others.write_bytes(b"\n".join(map(click_to_json, rest)) + b"\n")
    alone = build(corpus_at(str(others), "clickpath"), tmp_path / "alone")
    assert built.manifest.parts == alone.manifest.parts != whole.manifest.parts
    assert built.manifest.time == alone.manifest.time

    # And nothing that `clickpath train` and `clickpath report` leave names the user.
    run = tmp_path / "run"
    options = ["--corpus", str(archive), "--format", "archive", "--epochs", "1", "--json"]
    assert await run_command("train", *options, "--out", str(run)) == 0
    assert await run_command("report", str(run), "--no-baselines") == 0
    said = "".join(capsys.readouterr())
    made = Dataset.open(run / EXAMPLES_FOLDER)
    assert made.manifest.parts == alone.manifest.parts
    assert user_hash(pseudonym) not in users_in(made)
    number = user_hash(pseudonym)
    names = [user.encode(), pseudonym.encode(), str(number).encode(), number.to_bytes(8, "little")]
    left = {each: each.read_bytes() for each in run.rglob("*") if each.is_file()}
    assert {"card.json", "manifest.json", "report.html"} <= {each.name for each in left}
    assert [path for path, content in left.items() if any(n in content for n in names)] == []
    assert not any(name.decode() in said for name in names[:3])
