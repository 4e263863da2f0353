"""Counting what follows: by nothing (popularity), by the last one, by the last two.

The context of an action or of a yes or no are the last actions; that of a category or an item the
last of its kind. A context is smoothed towards the one that is one shorter, as if that one had
been seen `PRIOR` times, so that a context which nobody has seen says what the shorter one says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from clickpath.encoding import FEATURE_NAMES
from clickpath.vocabulary import ACTION_COUNT
from serving.outputs import CANDIDATES
from training.dataset import Ints, Part
from training.labels import HEADS, UNKNOWN
from training.metrics import Floats
from training.said import Said, joined

PRIOR: Final = 5.0
NAMES: Final = ("popularity", "markov1", "markov2")

_TOKEN_FEATURE: Final = {
    "next_category": FEATURE_NAMES.index("category"),
    "next_item": FEATURE_NAMES.index("item"),
}
_BATCH: Final = 1024

#: Odd, so that two hashes and their order are told apart.
_MIX: Final = 0x9E3779B97F4A7C15

#: What follows a context, likeliest first: hashes and probabilities, at most `CANDIDATES`.
Followers = tuple[Ints, Floats]


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of what follows.

    Attributes:
        order: How many of the last ones it looks at.
        actions: Shape (ACTION_COUNT ** order, ACTION_COUNT): probabilities.
        yes: By head, shape (ACTION_COUNT ** order,): probability.
        tokens: By head and order up to this one, what follows a context.
    """

    order: int
    actions: Floats
    yes: dict[str, Floats]
    tokens: dict[str, tuple[dict[int, Followers], ...]]

    def predict(self, part: Part) -> Said:
        """What it says after the last step of each path, by head."""
        pieces = []
        for batch in part.batches(_BATCH):
            last = np.arange(len(batch)), batch.lengths - 1
            row = contexts(batch.paths[:, 0], self.order)[last]
            said = {"next_action": self.actions[row]}
            said |= {head: probability[row] for head, probability in self.yes.items()}
            for head, tables in self.tokens.items():
                keys = [
                    _keys(batch.paths[:, _TOKEN_FEATURE[head]], order)[last]
                    for order in range(self.order + 1)
                ]
                found = [
                    next(
                        table[key]
                        for table, key in zip(tables[::-1], each, strict=True)
                        if key in table
                    )
                    for each in zip(*(of.tolist() for of in keys[::-1]), strict=True)
                ]
                said[f"{head}_token"] = np.stack([of[0] for of in found])
                said[head] = np.stack([of[1] for of in found])
            pieces.append(said)
        return joined(pieces)


def contexts(actions: Ints, order: int) -> Ints:
    """The last `order` actions of each step as one number, shape as `actions` (batch, time)."""
    row = np.zeros_like(actions)
    for back in range(order):
        row = row * ACTION_COUNT + _earlier(actions, back)
    return row


def _keys(tokens: Ints, order: int) -> Ints:
    """The last `order` tokens of each step as one number, shape as `tokens` (batch, time)."""
    key = np.zeros(tokens.shape, np.uint64)
    for back in range(order):
        key = key * np.uint64(_MIX) + _earlier(tokens, back).astype(np.uint64)
    return key.view(np.int64)


def _earlier(values: Ints, back: int) -> Ints:
    """The value `back` steps before each step, 0 where there is none."""
    shifted = np.zeros_like(values)
    shifted[:, back:] = values[:, : values.shape[1] - back]
    return shifted


def counted(part: Part, order: int) -> Counted:
    """Counts of some order, from the labels of the training part."""
    every_action, every_yes = _dense(part, order)
    known = {head for head in _TOKEN_FEATURE if part.has(head)}
    tokens: dict[str, tuple[dict[int, Followers], ...]] = {}
    for head in known:
        tables: list[dict[int, Followers]] = []
        for each in range(order + 1):
            tables.append(_followers(part, head, each, tables))
        tokens[head] = tuple(tables)
    return Counted(order, every_action, every_yes, tokens)


def _dense(part: Part, order: int) -> tuple[Floats, dict[str, Floats]]:
    """Probabilities of actions, and of yes by head, smoothed from order 0 up to this one."""
    # Before anything was seen, all actions are alike, and a yes or no is a coin.
    actions = np.full((1, ACTION_COUNT), 1.0 / (ACTION_COUNT - 1))
    actions[:, 0] = 0.0
    heads = [head for head in HEADS if head.kind == "binary" and part.has(head.name)]
    yes = {head.name: np.full(1, 0.5) for head in heads}
    for each in range(order + 1):
        size = ACTION_COUNT**each
        counts = np.zeros(size * ACTION_COUNT)
        said = {head.name: np.zeros((2, size)) for head in heads}
        for batch in part.batches(_BATCH):
            rows = contexts(batch.paths[:, 0], each)
            label = batch.labels["next_action"]
            seen = label != 0
            counts += np.bincount(rows[seen] * ACTION_COUNT + label[seen], minlength=len(counts))
            for head in heads:
                label = batch.labels[head.name]
                seen = label != UNKNOWN
                said[head.name][0] += np.bincount(rows[seen], minlength=size)
                said[head.name][1] += np.bincount(rows[seen], label[seen], size)
        # The context (a, b) of order 2 leans on the context (a) of order 1, a being the last one:
        # `contexts` puts the last action first, so each row stands for ACTION_COUNT rows below.
        below = 1 if each == 0 else ACTION_COUNT
        smooth = counts.reshape(size, -1) + PRIOR * np.repeat(actions, below, axis=0)
        actions = smooth / smooth.sum(axis=1, keepdims=True)
        for name, (times, came) in said.items():
            yes[name] = (came + PRIOR * np.repeat(yes[name], below)) / (times + PRIOR)
    return actions, yes


def _followers(
    part: Part, head: str, order: int, shorter: list[dict[int, Followers]]
) -> dict[int, Followers]:
    """What follows each context, smoothed by the next shorter one."""
    pieces = [np.zeros((3, 0), np.int64)]
    for batch in part.batches(_BATCH):
        label = batch.labels[head].astype(np.int64)
        seen = label != 0
        tokens = batch.paths[:, _TOKEN_FEATURE[head]]
        keys, below = _keys(tokens, order)[seen], _keys(tokens, max(order - 1, 0))[seen]
        pieces.append(np.stack([keys, below, label[seen]]))
    triples, count = np.unique(np.concatenate(pieces, axis=1), axis=1, return_counts=True)
    keys, starts = np.unique(triples[0], return_index=True)
    table: dict[int, Followers] = {}
    for key, start, end in zip(keys.tolist(), starts, [*starts[1:], len(count)], strict=True):
        label, often = triples[2, start:end], count[start:end].astype(np.float64)
        if order:
            table[key] = _smoothed(label, often, shorter[-1][int(triples[1, start])])
        else:
            table[key] = _best(label, often / often.sum())
    return table


def _smoothed(label: Ints, often: Floats, prior: Followers) -> Followers:
    """Counts, with those of the shorter context as if it had been seen `PRIOR` times."""
    every, place = np.unique(np.concatenate([label, prior[0]]), return_inverse=True)
    weight = np.bincount(place, np.concatenate([often, PRIOR * prior[1]]))
    return _best(every, weight / (often.sum() + PRIOR))


def _best(tokens: Ints, probability: Floats) -> Followers:
    """The likeliest, padded with no token and no chance."""
    best = np.argsort(-probability, kind="stable")[:CANDIDATES]
    gap = (0, CANDIDATES - len(best))
    return np.pad(tokens[best], gap), np.pad(probability[best], gap)


assert {head.name for head in HEADS if head.kind == "token"} == {*_TOKEN_FEATURE}
