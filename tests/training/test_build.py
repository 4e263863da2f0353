"""Data sets: made in pieces as in one go, from a manifest to the same bytes, without a future."""

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from clickpath.errors import UsageError
from clickpath.events import Click
from clickpath.simulation import simulate
from clickpath.wire import click_to_json
from training.build import Recipe, build, rebuild
from training.corpus import Simulated, corpus_at
from training.dataset import Dataset
from training.examples import PARTS, Cuts, Entry, Sampling, entry_of
from training.labels import DAY_MS, HEADS
from training.manifest import Manifest, Source

CORPUS = Simulated(3_000, 30, 1)


@dataclass(frozen=True)
class Given:
    """Clicks of a test."""

    clicks: tuple[Click, ...]
    foreign: bool = False

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        return (entry_of(click, place) for place, click in enumerate(self.clicks))

    def sources(self) -> tuple[Source, ...]:
        return (Source(name="given", bytes=0, sha256=""),)

    def erased(self) -> None:
        pass


@dataclass(frozen=True)
class Streamed:
    """Clicks that are made as they are read."""

    clicks: Callable[[], Iterator[Click]]
    foreign: bool = False

    def entries(self, refused: Counter[str]) -> Iterator[Entry]:
        return map(entry_of, self.clicks(), count())

    def sources(self) -> tuple[Source, ...]:
        return ()

    def erased(self) -> None:
        pass


def built(clicks: Iterable[Click], folder: Path, recipe: Recipe | None = None) -> Dataset:
    return build(Given(tuple(clicks)), folder, recipe)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows(dataset: Dataset, part: str) -> list[tuple[object, ...]]:
    """The examples of a part, one comparable value each, in an order of their own."""
    batch = dataset.part(part).whole()
    return sorted(
        (
            int(batch.users[n]),
            int(batch.ts_ms[n]),
            batch.paths[n, :, : batch.lengths[n]].tobytes(),
            *(batch.labels[head.name][n, : batch.lengths[n]].tobytes() for head in HEADS),
        )
        for n in range(len(batch))
    )


def test_a_corpus_in_small_buckets_gives_the_examples_of_the_whole(tmp_path: Path) -> None:
    whole = build(CORPUS, tmp_path / "a")
    pieces = build(CORPUS, tmp_path / "b", Recipe(bucket_clicks=100, shard_examples=16))
    assert len(pieces.manifest.parts["test"].shards) > 3
    for part in PARTS:
        assert rows(pieces, part) == rows(whole, part)
        assert pieces.part(part).known == whole.part(part).known
    assert {each.name for each in (tmp_path / "b").iterdir() if each.is_dir()} == set()


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    def clicks(events: int) -> Iterator[Click]:
        users = events // 20
        for n in range(events):
            yield Click(f"e{n}", f"u{n % users}", n * 60_000, "search", "search")

    def peak_bytes(events: int) -> int:
        tracemalloc.start()
        build(Streamed(lambda: clicks(events)), tmp_path / str(events), small)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    small = Recipe(bucket_clicks=200, shard_examples=16)
    peak_bytes(1_000)  # what is imported and cached once
    # Half a megabyte of buffers, and what waits for the garbage collector.
    assert peak_bytes(6_000) < 2.5 * peak_bytes(1_000)


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path) -> None:
    recipe = Recipe(sampling=Sampling(stride=10, share=0.5, seed=7), shard_examples=32)
    made = build(CORPUS, tmp_path / "a", recipe)
    rebuild(Dataset.open(tmp_path / "a").manifest, CORPUS, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert made.manifest.sampling["seed"] == 7


def test_a_data_set_is_not_made_again_from_other_clicks_or_by_other_code(tmp_path: Path) -> None:
    manifest = build(CORPUS, tmp_path / "a").manifest
    with pytest.raises(UsageError, match="the sources are not those of the manifest"):
        rebuild(manifest, Simulated(3_000, 30, 2), tmp_path / "b")
    other = manifest.model_copy(update={"code": "0" * 16})
    with pytest.raises(UsageError, match="written by other code, 0000000000000000"):
        rebuild(other, CORPUS, tmp_path / "b")


def test_a_manifest_tells_sources_range_counts_encoder_and_code(tmp_path: Path) -> None:
    log = tmp_path / "clicks.jsonl"
    clicks = list(simulate(2_000, 20, seed=3))
    lines = [click_to_json(click) for click in [*clicks[:1000], clicks[999], *clicks[1000:]]]
    log.write_bytes(b"\n".join([b"not an event", *lines]) + b"\n")
    build(corpus_at(str(log), "clickpath"), tmp_path / "set")
    manifest = Dataset.open(tmp_path / "set").manifest
    (source,) = manifest.sources
    assert (source.name, source.bytes) == ("clicks.jsonl", log.stat().st_size)
    assert len(source.sha256) == 64
    assert manifest.clicks.read == 2_002
    assert manifest.clicks.kept == 2_000
    assert manifest.clicks.dropped == {"duplicate": 1, "refused_not_json": 1}
    assert manifest.clicks.users == len({click.user_id for click in clicks})
    assert manifest.time.first_ms == clicks[0].ts_ms
    assert manifest.time.last_ms == clicks[-1].ts_ms
    assert manifest.time.end_ms == clicks[-1].ts_ms + 1
    assert manifest.encoder == Recipe().encoder.fingerprint
    assert manifest.sampling["seed"] == 1
    assert len(manifest.code) == 16
    assert manifest.cleaning is None


def test_a_corpus_is_cut_by_time_and_never_within_a_moment(tmp_path: Path) -> None:
    clicks = list(simulate(1_000, 20, seed=1))
    time = built(clicks, tmp_path).manifest.time
    assert time.valid_from_ms == clicks[700].ts_ms
    assert time.test_from_ms == clicks[850].ts_ms


def test_cuts_that_are_given_may_leave_a_part_empty(tmp_path: Path) -> None:
    clicks = list(simulate(1_000, 20, seed=1))
    dataset = built(clicks, tmp_path, Recipe(cuts=Cuts(0, 0, clicks[-1].ts_ms + 1)))
    assert [len(dataset.part(name)) > 0 for name in PARTS] == [False, False, True]
    short = built(clicks, tmp_path / "short", Recipe(cuts=Cuts(0, 0, clicks[900].ts_ms)))
    assert short.manifest.clicks.dropped == {"beyond_end": 100}
    assert not dataset.part("train").has("next_action")
    assert len(dataset.part("train").whole()) == 0
    assert list(dataset.part("train").batches(8)) == []


def test_a_corpus_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 20 readable clicks, at least 100 are needed"):
        built(simulate(20, 2, seed=1), tmp_path)


def test_a_corpus_against_the_order_of_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not in order of time: \d+ of 2000 clicks"):
        built(reversed(list(simulate(2_000, 40, seed=1))), tmp_path)


def test_a_corpus_that_is_sorted_by_user_is_as_good_as_one_by_time(tmp_path: Path) -> None:
    clicks = list(simulate(2_000, 40, seed=1))
    by_time = built(clicks, tmp_path / "a")
    by_user = built(sorted(clicks, key=lambda click: click.user_id), tmp_path / "b")
    for part in PARTS:
        assert rows(by_user, part) == rows(by_time, part)


def test_what_an_earlier_build_has_left_is_gone(tmp_path: Path) -> None:
    left = [tmp_path / "train-00099.npz", tmp_path / ".buckets-x" / "0", tmp_path / "manifest.json"]
    left[1].parent.mkdir()
    for path in left:
        path.write_bytes(b"of another run")
    build(CORPUS, tmp_path)
    assert [path.exists() for path in left] == [False, False, True]
    with pytest.raises(UsageError, match="too little time"):
        built([Click(str(n), "u", 5, "search", "search") for n in range(200)], tmp_path)
    with pytest.raises(UsageError, match="there is no data set"):
        Dataset.open(tmp_path)


def test_a_folder_without_a_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no data set at"):
        Dataset.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(UsageError, match=r"manifest\.json is no manifest: format"):
        Dataset.open(tmp_path)


def shoppers(planted: bool = False) -> list[Click]:
    """Forty days of shoppers who buy every third day or never, half of them each.

    Planted: in the last part everybody does the opposite.
    """
    clicks = []
    for day in range(40):
        for user in range(60):
            buys = user % 2 == 0
            if planted and day >= 34:
                buys = not buys
            start_ms = day * DAY_MS + user * 60_000
            names = ["page_view", "search" if user % 2 else "view_item"]
            names += ["add_to_cart", "purchase"] if buys and (day + user) % 3 == 0 else []
            clicks += [
                Click(f"{user}-{day}-{n}", f"user-{user}", start_ms + n * 1000, name, name)
                for n, name in enumerate(names)
            ]
    return clicks


def error_of(dataset: Dataset, part: str = "test", shuffled: int | None = None) -> float:
    """Mean squared error of a table: how often a purchase followed, by the last action.

    Counted on the training part, its labels shuffled where a seed is given; asked on another one.
    """
    train = dataset.part("train").whole()
    labels = train.labels["purchase"]
    known = labels != -1
    answers = labels[known].astype(float)
    if shuffled is not None:
        answers = np.random.default_rng(shuffled).permutation(answers)
    actions = train.paths[:, 0][known]
    table = np.bincount(actions, answers, 32) / np.maximum(np.bincount(actions, minlength=32), 1)
    asked = dataset.part(part).whole()
    came = asked.last_labels()["purchase"]
    said = table[asked.paths[np.arange(len(asked)), 0, asked.lengths - 1]]
    return float(((said - came)[came != -1] ** 2).mean())


def fixed() -> Recipe:
    return Recipe(sampling=Sampling(share=1.0), cuts=Cuts(28 * DAY_MS, 34 * DAY_MS, 40 * DAY_MS))


def test_a_planted_future_helps_nobody_before_it(tmp_path: Path) -> None:
    honest = built(shoppers(), tmp_path / "a", fixed())
    planted = built(shoppers(planted=True), tmp_path / "b", fixed())
    for part in ("train", "valid"):
        assert rows(planted, part) == rows(honest, part)
    # What was learnt before the change is worse after it. Were anything of the future in the
    # training labels, the score on the planted part would have come up with it.
    assert error_of(planted) > error_of(honest) + 0.03
    assert error_of(planted, "valid") == error_of(honest, "valid")


def test_a_feature_that_holds_the_label_is_found_out_by_the_score(tmp_path: Path) -> None:
    """The reverse of the test above: where the future is in the path, the score jumps."""
    told = [
        replace(click, action="apply_coupon") if _buys_later(click) else click
        for click in shoppers()
    ]
    assert error_of(built(told, tmp_path / "a", fixed())) < 0.01
    assert error_of(built(shoppers(), tmp_path / "b", fixed())) > 0.05


def _buys_later(click: Click) -> bool:
    user, day, number = map(int, click.event_id.split("-"))
    return user % 2 == 0 and (day + user) % 3 == 0 and number < 3


def test_from_shuffled_labels_nothing_is_learnt(tmp_path: Path) -> None:
    dataset = built(shoppers(), tmp_path, fixed())
    came = dataset.part("test").last_labels()["purchase"]
    constant = float(came[came != -1].var())
    assert error_of(dataset) < 0.8 * constant
    for seed in range(3):
        assert error_of(dataset, shuffled=seed) > 0.95 * constant


def test_all_heads_have_labels_where_the_corpus_is_long_enough(tmp_path: Path) -> None:
    dataset = built(shoppers(), tmp_path, Recipe(cuts=Cuts(0, 0, 40 * DAY_MS)))
    known = dataset.part("test").known
    assert known["return_7d"] > 0
    assert known["repeat_purchase"] > 0
    assert known["next_item"] == 0


def test_a_manifest_read_back_is_the_manifest(tmp_path: Path) -> None:
    manifest = build(CORPUS, tmp_path).manifest
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
