"""Erased users: what was made of them before is not trained on again."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickpath.cli import main
from clickpath.erasure import mark_of
from clickpath.errors import UsageError
from clickpath.simulation import simulate
from clickpath.wire import click_to_json
from stream.archive.columns import ERASURES, Origin, batch_of, erasure_row
from stream.archive.forgetting import forget
from stream.archive.place import Place
from stream.erasing import Receipt
from tests.training.test_corpus import archive
from training.build import build
from training.corpus import corpus_at
from training.dataset import Dataset
from training.earlier import old_parts, reopen
from training.examples import PARTS, user_hash

CLICKS = list(simulate(6_000, 100, seed=3))
#: The user with the most clicks, and the one after.
ONE, OTHER = (user for user, _ in Counter(click.user_id for click in CLICKS).most_common(2))
SMALL = ["--epochs", "1", "--seed", "3"]


def receipt(user: str, offset: int = len(CLICKS)) -> Receipt:
    return Receipt(
        mark=mark_of(user),
        step="erase",
        at_ms=CLICKS[-1].ts_ms,
        topic="clicks",
        partition=0,
        offset=offset,
        found=True,
        events=1,
    )


def erase(root: Path, user: str, offset: int = len(CLICKS)) -> None:
    """What `clickpath archive` writes of an erasure."""
    folder = root / "erasures" / "day=2026-01-01" / "bucket=0"
    folder.mkdir(parents=True, exist_ok=True)
    row = erasure_row(receipt(user, offset), Origin(0, "erasures", 0, offset))
    table = pa.Table.from_batches([batch_of([row], ERASURES)])
    pq.write_table(table, folder / f"erasures-0-{mark_of(user)}-{offset}.parquet")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return archive(tmp_path / "archive", CLICKS)


def train(root: Path, out: Path, *more: str) -> int:
    of = ["--corpus", str(root), "--format", "archive", "--out", str(out)]
    return main(["train", *of, *SMALL, *more])


def users_of(dataset: Dataset) -> set[int]:
    return {int(user) for name in PARTS for user in dataset.part(name).whole().users}


def test_a_run_does_not_go_on_with_examples_from_before_an_erasure(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    erase(root, OTHER)
    assert train(root, out) == 0
    assert train(root, out, "--resume") == 0
    model = (out / "model.onnx").read_bytes()
    capsys.readouterr()
    erase(root, ONE)
    assert train(root, out, "--resume") == 2
    [said] = capsys.readouterr().err.splitlines()
    assert f"users were erased from the archive since the examples in {out}" in said
    assert "train again without --resume" in said
    assert (out / "model.onnx").read_bytes() == model
    assert train(root, out) == 0
    assert {user_hash(ONE), user_hash(OTHER)} & users_of(Dataset.open(out / "examples")) == set()
    assert train(root, out, "--resume") == 0


def test_somebody_who_is_erased_again_has_been_erased_since(root: Path, tmp_path: Path) -> None:
    erase(root, ONE, offset=len(CLICKS) // 2)
    corpus = corpus_at(str(root), "archive")
    assert user_hash(ONE) in users_of(build(corpus, tmp_path / "set"))
    erase(root, ONE)
    with pytest.raises(UsageError, match="users were erased from the archive since"):
        reopen(corpus, tmp_path / "set")


def test_rows_that_were_dropped_by_hand_stop_a_run_too(root: Path, tmp_path: Path) -> None:
    corpus = corpus_at(str(root), "archive")
    build(corpus, tmp_path / "set")
    assert forget(Place(str(root)), [receipt(ONE)]).clicks > 0
    with pytest.raises(UsageError, match=r"which is not in the corpus as it was: train again"):
        reopen(corpus, tmp_path / "set")


def test_an_archive_that_has_only_grown_stops_no_run(root: Path, tmp_path: Path) -> None:
    corpus = corpus_at(str(root), "archive")
    made = build(corpus, tmp_path / "set")
    [file, *_] = sorted((root / "clicks").rglob("*.parquet"))
    file.with_name("clicks-0-later.parquet").write_bytes(file.read_bytes())
    assert reopen(corpus, tmp_path / "set") == made


def test_a_run_of_an_archive_goes_on_with_that_alone(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "clicks.jsonl"
    log.write_bytes(b"".join(click_to_json(click) + b"\n" for click in CLICKS))
    of_log = corpus_at(str(log), "clickpath")
    build(corpus_at(str(root), "archive"), tmp_path / "archived")
    build(of_log, tmp_path / "logged")
    with pytest.raises(UsageError, match=r"archived are of an archive, the corpus is no archive"):
        reopen(of_log, tmp_path / "archived")
    with pytest.raises(UsageError, match=r"logged are of no archive, the corpus is an archive"):
        reopen(corpus_at(str(root), "archive"), tmp_path / "logged")
    assert len(reopen(of_log, tmp_path / "logged").part("train")) > 0
    log.write_bytes(b"".join(click_to_json(click) + b"\n" for click in CLICKS[1:]))
    with pytest.raises(UsageError, match=r"'clicks\.jsonl', which is not in the corpus as it was"):
        reopen(of_log, tmp_path / "logged")


def test_a_part_without_some_users_is_that_of_the_others(root: Path, tmp_path: Path) -> None:
    made = build(corpus_at(str(root), "archive"), tmp_path / "set")
    for name in PARTS:
        part = made.part(name)
        some = np.unique(part.whole().users)[::2]
        few = part.without(some)
        whole = part.whole()
        rows = ~np.isin(whole.users, some)
        assert 0 < len(few) == int(rows.sum()) < len(part)
        for size in (7, 1_000):
            batches = list(few.batches(size, seed=1))
            assert sum(map(len, batches)) == len(few)
            assert not {int(user) for batch in batches for user in batch.users} & {*some.tolist()}
        assert few.whole().users.tolist() == whole.users[rows].tolist()
        assert few.known["next_action"] < part.known["next_action"]


def test_a_refresh_passes_over_old_examples_of_users_who_were_erased_since(
    root: Path, tmp_path: Path
) -> None:
    corpus = corpus_at(str(root), "archive")
    made = build(corpus, tmp_path / "run" / "examples")
    users = {click.user_id for click in CLICKS}
    assert user_hash(ONE) in users_of(made)
    erase(root, ONE)
    old = old_parts(tmp_path / "run" / "examples", corpus)
    left = {int(user) for part in old.values() for user in part.users()}
    assert left == users_of(made) - {user_hash(ONE)}
    # Nor is somebody told from the others by rows that are there no more, or by new ones.
    assert forget(Place(str(root)), [receipt(OTHER)]).clicks > 0
    old = old_parts(tmp_path / "run" / "examples", corpus)
    left = {int(user) for part in old.values() for user in part.users()}
    assert left == users_of(made) - {user_hash(ONE), user_hash(OTHER)}
    for user in users:
        erase(root, user)
    with pytest.raises(
        UsageError, match=r"too few users of .* are in the archive, and were not erased"
    ):
        old_parts(tmp_path / "run" / "examples", corpus)


def test_a_refresh_of_a_run_of_an_archive_asks_for_that_archive(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(root, tmp_path / "run") == 0
    log = tmp_path / "clicks.jsonl"
    log.write_bytes(b"".join(click_to_json(click) + b"\n" for click in CLICKS))
    capsys.readouterr()
    refresh = ["refresh", str(tmp_path / "run"), "--out", str(tmp_path / "next")]
    assert main([*refresh, "--corpus", str(log)]) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "are of an archive, which alone tells who was erased since: give it as the" in said
