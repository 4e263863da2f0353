"""Paths scored step by step: a new click of a user who is in the cache costs one step's work.

What is said of a path is a function of the path: the same bits whether its user was in the cache
or not, whatever else was asked before or is asked beside it. A path that the cache does not know
is followed from as far back as the model looks, in one go, and costs about a whole pass.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import PredictorTimeout
from clickpath.scores import Scores
from serving.cache_counts import CacheCounts
from serving.incremental_cache import PathCache, Places
from serving.incremental_graphs import Floats, Form, Ints, StepGraphs
from serving.incremental_pass import Made, follow_many, follow_one, kept_of
from serving.incremental_paths import Newest, Rows, continues, newest_of
from serving.outputs import Outputs, scores_of

#: Paths that are followed together: fewer have more around them; of more, what is at work does not
#: stay near the processor.
_LEAST_TOGETHER: Final = 64
_MOST_TOGETHER: Final = 128

#: About what the windows of a layer's keys may take, for that.
_NEAR_BYTES: Final = 300_000

#: Paths of several new steps that go together: they need a window in memory for each step.
_LONG_ROWS: Final = 16


class Plan(NamedTuple):
    """How paths are to be followed.

    Attributes:
        slots: Of the users' entries, (N,); -1 where there is none.
        followed: Steps that were followed before, (N,); 0 where no entry is of use.
        new: Steps to follow, (N,), from 1.
    """

    slots: Places
    followed: Ints
    new: Ints

    def of(self, rows: Rows) -> Plan:
        """Those of some paths."""
        return Plan(*(each[rows] for each in self))


class StepByStep:
    """Scores paths with the step graphs of a model and a cache.

    Args:
        directory: Holds the model and its card.
        encoder: The encoder whose paths it will be given.
        cache_bytes: Most memory of the cache.
        threads: Threads within one run.

    Raises:
        ModelMismatch: The model has no step graphs, or does not fit.
        ConfigError: The cache holds no user.
    """

    def __init__(
        self,
        directory: Path,
        encoder: Encoder,
        *,
        cache_bytes: int,
        threads: int = 1,
    ) -> None:
        self._graphs = StepGraphs(directory, encoder, threads=threads)
        self.card = self._graphs.card
        self._form: Form = self._graphs.form
        self._cache = PathCache(self._form, cache_bytes)
        self._steps = encoder.window.steps
        near = _NEAR_BYTES // (4 * self._form.window * self._form.width)
        together = min(max(near, _LEAST_TOGETHER), _MOST_TOGETHER)
        self._together = min(together, self._cache.slots)

    def counts(self) -> CacheCounts:
        """What the cache has done so far."""
        return self._cache.counts()

    def score(
        self,
        paths: Sequence[array[int]],
        keys: Sequence[bytes] | None,
        options: onnxruntime.RunOptions,
    ) -> list[Scores]:
        """Scores of paths, one each, in their order.

        Args:
            paths: Encoded.
            keys: Whose paths they are; without them nothing is kept.
            options: What tells it to stop.

        Raises:
            PredictorTimeout: It was told to stop.
            PredictorUnavailable: A graph failed.
        """
        results: list[Scores | None] = [None] * len(paths)
        for rows in _pieces(keys, len(paths), self._together):
            if options.terminate:
                raise PredictorTimeout("nobody waits for these scores any more")
            encoded = np.frombuffer(b"".join([paths[row] for row in rows]), np.int64)
            encoded = encoded.reshape(len(rows), FEATURES, self._steps)
            whose = None if keys is None else [keys[row] for row in rows]
            said = self.outputs(encoded, whose, options)
            for row, scores in zip(rows, scores_of(said), strict=True):
                results[row] = scores
        return [scores for scores in results if scores is not None]

    def outputs(
        self,
        encoded: Ints,
        keys: Sequence[bytes] | None = None,
        options: onnxruntime.RunOptions | None = None,
    ) -> Outputs:
        """What `serving.outputs` names, for paths of shape (N, FEATURES, steps).

        With keys there are at most as many paths as users fit into the cache.
        """
        newest = newest_of(encoded, self._form)
        plan = self._plan(newest, keys)
        said: dict[str, npt.NDArray[Any]] = {}
        followed = []
        for rows in _groups(plan.new):
            some, how = newest.of(rows), plan.of(rows)
            outputs, made = self._follow(some, how, options)
            for name, of in outputs.items():
                every = said.setdefault(name, np.empty((len(encoded), *of.shape[1:]), of.dtype))
                every[rows] = of
            followed.append((some, how, made, rows))
        # Only now, for a user may have paths in several groups; and nothing that is no number
        # stays, or the next answer would be none either.
        if keys is not None and all(np.isfinite(of).all() for of in said.values()):
            kept = _last_ones(keys) & (newest.lengths > 0)
            for each in followed:
                self._keep(*each, keys, kept)
        return said

    def _plan(self, newest: Newest, keys: Sequence[bytes] | None) -> Plan:
        """What the cache knows of each path; the steps themselves say what they continue."""
        slots = np.full(len(newest.lengths), -1, np.intp)
        followed = np.zeros_like(newest.lengths)
        new = np.clip(newest.lengths, 1, self._form.asked(0))
        if keys is None:
            return Plan(slots, followed, new)
        slots = self._cache.find(keys)
        left = np.flatnonzero(slots >= 0)
        known = len(left)
        # One more step is the rule; none more is the same path again.
        for more in (1, 0, *range(2, self._form.window)):
            if not len(left):
                break
            earlier = self._cache.told[slots[left]]
            same = continues(newest.told[left], earlier, more, self._form)
            rows, left = left[same], left[~same]
            new[rows] = max(more, 1)
            followed[rows] = self._cache.followed[slots[rows]] - (more == 0)
        hits = known - len(left)
        self._cache.count(hits, len(keys) - hits)
        return Plan(slots, followed, new)

    def _follow(
        self, newest: Newest, plan: Plan, options: onnxruntime.RunOptions | None
    ) -> tuple[Outputs, list[Made]]:
        window = self._cache.window(plan.slots, plan.followed)

        def read(layer: int) -> tuple[Floats, Floats]:
            return self._cache.read(layer, window)

        if plan.new[0] == 1:
            return follow_one(newest, plan.followed, read, self._graphs, options)
        return follow_many(newest, plan.followed, plan.new, read, self._graphs, options)

    def _keep(
        self,
        newest: Newest,
        plan: Plan,
        made: list[Made],
        rows: Rows,
        keys: Sequence[bytes],
        kept: npt.NDArray[np.bool_],
    ) -> None:
        """Keeps what was made of some paths, but for those that are not to be kept."""
        chosen, number = np.flatnonzero(kept[rows]), np.arange(len(keys))[rows]
        slots = plan.slots[chosen]
        fresh = np.flatnonzero(slots < 0)
        slots[fresh] = self._cache.claim([keys[n] for n in number[chosen[fresh]].tolist()])
        followed = plan.followed[chosen] + plan.new[chosen]
        for layer, of in enumerate(made, 1):
            number, back, key, value = kept_of(of, chosen, self._form.window)
            places = self._cache.places(slots[number], followed[number] - 1 - back)
            self._cache.write(layer, places, key, value)
        self._cache.told[slots] = newest.told[chosen]
        self._cache.followed[slots] = followed


def _pieces(keys: Sequence[bytes] | None, count: int, most: int) -> Iterator[Sequence[int]]:
    """So many paths, at most `most` together, and a user's next path after the one before.

    Where few paths are first ones of their users, the next ones go along: several steps at once
    are cheaper then.
    """
    order: Sequence[int] = range(count)
    sizes = [count]
    if keys is not None and len(set(keys)) < count:
        turns, times = [], dict[bytes, int]()
        for key in keys:
            turns.append(times.get(key, 0))
            times[key] = turns[-1] + 1
        order = sorted(order, key=turns.__getitem__)
        sizes = np.bincount(turns).tolist()
    start = end = 0
    for size in sizes:
        end += size
        if end - start >= _LEAST_TOGETHER or end == count:
            for first in range(start, end, most):
                yield order[first : min(first + most, end)]
            start = end


def _last_ones(keys: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which paths are the last ones of their users; they go on where the others stop."""
    last = np.full(len(keys), len(set(keys)) == len(keys))
    if not last.all():
        last[list({key: row for row, key in enumerate(keys)}.values())] = True
    return last


def _groups(new: Ints) -> Iterator[Rows]:
    """Paths that are followed together: those of one new step, then the others in pieces."""
    one, more = np.flatnonzero(new == 1), np.flatnonzero(new > 1)
    if len(one) == len(new):
        yield slice(None)  # what is taken by it is not copied
    elif len(one):
        yield one
    for start in range(0, len(more), _LONG_ROWS):
        yield more[start : start + _LONG_ROWS]
