"""Paths followed step by step: the same bits whatever the cache holds, and when it is of use."""

from __future__ import annotations

import random
import shutil
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import ConfigError, ModelMismatch, PredictorTimeout
from clickpath.steps import Step
from serving.card import read_card, step_file, write_card
from serving.embedded import EmbeddedPredictor, shipped_model
from serving.fake import FakePredictor
from serving.graph import Graph
from serving.incremental import StepByStep
from serving.incremental_graphs import Ints
from serving.outputs import Outputs
from serving.switching import SwitchingPredictor

MakePath = Callable[..., "array[int]"]

#: Of the shipped model.
WINDOW = 17

ROOM = 64 << 20


class Shoppers:
    """Shoppers whose paths grow, by a seed."""

    def __init__(self, encoder: Encoder, seed: int = 1) -> None:
        self.encoder = encoder
        self.random = random.Random(seed)
        self.items = [self.random.getrandbits(62) for _ in range(12)]
        self.paths: dict[bytes, list[Step]] = {}

    def click(self, user: bytes, times: int = 1) -> None:
        path, draw = self.paths.setdefault(user, []), self.random
        for _ in range(times):
            ts_ms = path[-1].ts_ms if path else 1_700_000_000_000
            ts_ms += draw.choice([0, draw.randrange(90_000), draw.randrange(2_500_000)])
            path.append(self._step(ts_ms))

    def click_late(self, user: bytes) -> None:
        """An event that belongs before the newest ones."""
        path = self.paths[user]
        path.append(self._step(path[-1].ts_ms - 1))
        path.sort()

    def _step(self, ts_ms: int) -> Step:
        draw = self.random
        item, category = draw.choice([0, *self.items]), draw.choice(self.items)
        price_cents = draw.choice([-1, draw.randrange(20_000)])
        event, action = draw.getrandbits(63), draw.randrange(1, 22)
        return Step(ts_ms, event, action, item, category, price_cents, 0, ())

    def encoded(self, users: Sequence[bytes]) -> Ints:
        steps = self.encoder.window.steps
        raw = [
            self.encoder.encode_steps(tuple(self.paths[user][-steps:])).tobytes() for user in users
        ]
        return np.frombuffer(b"".join(raw), np.int64).reshape(len(users), FEATURES, steps)


@pytest.fixture
def shoppers(encoder: Encoder) -> Shoppers:
    return Shoppers(encoder)


def engine(encoder: Encoder, cache_bytes: int = ROOM) -> StepByStep:
    return StepByStep(shipped_model(), encoder, cache_bytes=cache_bytes)


@pytest.fixture
def followed(encoder: Encoder) -> StepByStep:
    return engine(encoder)


def same_bits(a: Outputs, b: Outputs) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def hits_of(asked: StepByStep, shoppers: Shoppers, users: Sequence[bytes]) -> int:
    """Asks about users, checks the answer against one without a cache, and counts hits."""
    paths, before = shoppers.encoded(users), asked.counts().hits
    assert same_bits(asked.outputs(paths, users), asked.outputs(paths))
    return asked.counts().hits - before


@pytest.mark.parametrize("cache_bytes", [1 << 20, ROOM])
def test_what_is_said_is_the_same_bits_whatever_the_cache_holds(
    encoder: Encoder, cache_bytes: int
) -> None:
    shoppers, asked = Shoppers(encoder), engine(encoder, cache_bytes)
    whole = Graph(shipped_model(), encoder)
    users = [b"user-%d" % n for n in range(200)]
    draw = random.Random(2)
    for _ in range(40):
        some = draw.choices(users, k=60)
        for user in some:
            shoppers.click(user, draw.choice([1, 1, 1, 2, 5, 16, 17, 40]))
            if draw.random() < 0.1:
                shoppers.click_late(user)
        paths = shoppers.encoded(some)
        said = asked.outputs(paths, some)
        assert same_bits(said, asked.outputs(paths))
        for name, of in whole.run(paths).items():
            np.testing.assert_allclose(said[name], of, atol=1e-5)
    counts = asked.counts()
    assert counts.hits > 300
    assert counts.misses > 300
    assert counts.size_bytes <= cache_bytes
    assert (counts.evictions > 0) == (cache_bytes < ROOM)


@pytest.mark.parametrize("together", [1, 2, 7, 64, 1_024])
def test_what_is_said_does_not_depend_on_who_else_is_asked_about(
    followed: StepByStep, shoppers: Shoppers, together: int
) -> None:
    users = [b"%d" % n for n in range(max(64, together))]
    for n, user in enumerate(users):
        shoppers.click(user, 1 + n % 60)
    paths = shoppers.encoded(users)
    pieces = [range(n, min(n + together, len(users))) for n in range(0, len(users), together)]

    in_pieces = [followed.outputs(paths[rows], [users[n] for n in rows]) for rows in pieces]

    joined = {name: np.concatenate([piece[name] for piece in in_pieces]) for name in in_pieces[0]}
    mixed = np.random.default_rng(1).permutation(len(users))
    for name, of in followed.outputs(paths[mixed]).items():
        assert of.tobytes() == joined[name][mixed].tobytes()
    for name, of in Graph(shipped_model(), shoppers.encoder).run(paths).items():
        np.testing.assert_allclose(joined[name], of, atol=1e-5)


@pytest.mark.parametrize("users", [1, 50, 100, 300])
def test_each_click_of_a_call_goes_on_from_the_one_before(
    followed: StepByStep, shoppers: Shoppers, users: int
) -> None:
    keys, paths = [], []
    for _ in range(5):
        for n in range(users):
            shoppers.click(b"%d" % n)
            keys.append(b"%d" % n)
            encoded = shoppers.encoded(keys[-1:])
            paths.append(array("q", encoded.tobytes()))
    options = onnxruntime.RunOptions()

    assert followed.score(paths, keys, options) == followed.score(paths, None, options)
    # Paths of one piece are looked up before any of them is kept.
    assert followed.counts().misses == users * (5 if users == 1 else 2 if users == 50 else 1)
    shoppers.click(b"0")
    assert hits_of(followed, shoppers, [b"0"]) == 1


@pytest.mark.parametrize("length", [1, 2, 16, 17, 33, 48, 49, 50, 51, 120])
def test_one_click_more_goes_on_from_what_is_kept_also_when_the_window_slides(
    followed: StepByStep, shoppers: Shoppers, length: int
) -> None:
    shoppers.click(b"ada", length)
    assert hits_of(followed, shoppers, [b"ada"]) == 0
    for _ in range(5):
        shoppers.click(b"ada")
        assert hits_of(followed, shoppers, [b"ada"]) == 1


@pytest.mark.parametrize(("clicks", "hits"), [(0, 1), (2, 1), (WINDOW - 1, 1), (WINDOW, 0)])
def test_several_clicks_are_followed_at_once_up_to_a_window_of_them(
    followed: StepByStep, shoppers: Shoppers, clicks: int, hits: int
) -> None:
    shoppers.click(b"ada", 30)
    hits_of(followed, shoppers, [b"ada"])

    shoppers.click(b"ada", clicks)

    assert hits_of(followed, shoppers, [b"ada"]) == hits


def test_after_an_event_out_of_order_the_path_is_followed_anew(
    followed: StepByStep, shoppers: Shoppers
) -> None:
    shoppers.click(b"ada", 30)
    hits_of(followed, shoppers, [b"ada"])

    shoppers.click_late(b"ada")

    assert hits_of(followed, shoppers, [b"ada"]) == 0
    shoppers.click(b"ada")
    assert hits_of(followed, shoppers, [b"ada"]) == 1


def test_what_is_kept_under_a_key_is_of_no_use_for_another_path(
    followed: StepByStep, shoppers: Shoppers
) -> None:
    shoppers.click(b"ada", 20)
    shoppers.click(b"bob", 20)
    hits_of(followed, shoppers, [b"ada"])

    paths = shoppers.encoded([b"bob"])

    assert same_bits(followed.outputs(paths, [b"ada"]), followed.outputs(paths))
    assert followed.counts().hits == 0


def test_a_user_may_be_asked_about_several_times_in_one_call(
    followed: StepByStep, shoppers: Shoppers
) -> None:
    keys, paths = [], []
    for clicks in (20, 1, 0, 3, 1):
        shoppers.click(b"ada", clicks)
        shoppers.click(b"bob", 1)
        keys += [b"ada", b"bob"]
        paths.append(shoppers.encoded([b"ada", b"bob"]))
    every = np.concatenate(paths)

    for _ in range(2):
        assert same_bits(followed.outputs(every, keys), followed.outputs(every))
    shoppers.click(b"ada")
    assert hits_of(followed, shoppers, [b"ada"]) == 1


def test_the_user_who_was_not_asked_about_for_the_longest_makes_room(
    encoder: Encoder, shoppers: Shoppers
) -> None:
    one_bytes = engine(encoder)
    shoppers.click(b"x", 3)
    hits_of(one_bytes, shoppers, [b"x"])
    asked = engine(encoder, 3 * one_bytes.counts().size_bytes)
    for user in (b"ada", b"bob", b"cyd"):
        shoppers.click(user, 5)
        hits_of(asked, shoppers, [user])
    hits_of(asked, shoppers, [b"ada"])
    shoppers.click(b"dan", 5)
    hits_of(asked, shoppers, [b"dan"])

    assert hits_of(asked, shoppers, [b"ada", b"cyd", b"dan"]) == 3
    assert asked.counts().evictions == 1
    assert hits_of(asked, shoppers, [b"bob"]) == 0


def test_a_path_without_steps_leaves_nothing(followed: StepByStep, shoppers: Shoppers) -> None:
    shoppers.paths[b"ada"] = []
    hits_of(followed, shoppers, [b"ada"])
    shoppers.click(b"ada")
    assert hits_of(followed, shoppers, [b"ada"]) == 0


async def test_a_call_that_is_given_up_leaves_the_next_answers_as_they_are(
    encoder: Encoder, make_path: MakePath
) -> None:
    predictor = EmbeddedPredictor(shipped_model(), encoder, cache_bytes=ROOM)
    paths, keys = [make_path(40, seed=n) for n in range(300)], [b"%d" % n for n in range(300)]
    expected = await predictor.predict(paths, deadline_s=30)
    for deadline_s in (0.0, 0.001, 0.003, 0.01):
        with suppress(PredictorTimeout):
            await predictor.predict(paths, deadline_s=deadline_s, keys=keys)

    assert await predictor.predict(paths, deadline_s=30, keys=keys) == expected
    await predictor.close()


def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(shipped_model(), tmp_path / "model"))


def test_a_model_without_step_graphs_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    model = copied(tmp_path)
    write_card(read_card(model).model_copy(update={"step_sha256": ()}), model)

    with pytest.raises(ModelMismatch, match="has no step graphs to follow a path with"):
        StepByStep(model, encoder, cache_bytes=ROOM)
    assert EmbeddedPredictor(model, encoder).cache_counts() is None


def test_step_graphs_of_another_model_are_refused(tmp_path: Path, encoder: Encoder) -> None:
    model = copied(tmp_path)
    (model / step_file(1)).write_bytes((model / step_file(2)).read_bytes())

    with pytest.raises(ModelMismatch, match=r"but step-1\.onnx has"):
        StepByStep(model, encoder, cache_bytes=ROOM)
    (model / step_file(1)).unlink()
    with pytest.raises(ModelMismatch, match=r"no model to read at .*step-1\.onnx"):
        StepByStep(model, encoder, cache_bytes=ROOM)


def test_a_graph_that_is_no_step_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    model = copied(tmp_path)
    card = read_card(model)
    for number in range(3):
        shutil.copyfile(model / "model.onnx", model / step_file(number))
    write_card(card.model_copy(update={"step_sha256": (card.sha256,) * 3}), model)

    with pytest.raises(ModelMismatch, match="have other inputs"):
        StepByStep(model, encoder, cache_bytes=ROOM)


def test_a_cache_for_nobody_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="a cache of 5000 bytes holds no user, one takes 1"):
        engine(encoder, 5_000)


async def test_what_caches_did_is_still_counted_when_their_model_is_put_aside(
    encoder: Encoder, make_path: MakePath
) -> None:
    first, second = (
        EmbeddedPredictor(shipped_model(), encoder, cache_bytes=ROOM) for _ in range(2)
    )
    both = SwitchingPredictor(first)
    for predictor in (first, second):
        await both.use(predictor)
        for _ in range(2):
            await both.predict([make_path(9)], deadline_s=30, keys=[b"ada"])

    counts = both.cache_counts()
    assert counts is not None
    assert (counts.hits, counts.misses, counts.entries) == (2, 2, 1)
    await both.close()
    assert SwitchingPredictor(FakePredictor(encoder)).cache_counts() is None
