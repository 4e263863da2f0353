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
from serving.incremental_pass import (
    Made,
    Newest,
    continues,
    follow_many,
    follow_one,
    kept_of,
    newest_of,
)
from serving.outputs import Outputs, scores_of

#: Paths of several new steps that go together: they need a window in memory for each step.
_LONG_ROWS: Final = 16


class Plan(NamedTuple):
    """How paths are to be followed.

    Attributes:
        slots: Of the users' entries, (N,); -1 where there is none of use.
        followed: Steps that were followed before, (N,); 0 where there is no entry.
        new: Steps to follow, (N,), from 1.
    """

    slots: Places
    followed: Ints
    new: Ints

    def of(self, rows: Places) -> Plan:
        """Those of some paths."""
        return Plan(*(each[rows] for each in self))


class StepByStep:
    """Scores paths with the step graphs of a model and a cache.

    Args:
        directory: Holds the model and its card.
        encoder: The encoder whose paths it will be given.
        cache_bytes: Most memory of the cache.
        threads: Threads within one run.
        most_rows: Most paths that are followed together.

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
        most_rows: int = 64,
    ) -> None:
        self._graphs = StepGraphs(directory, encoder, threads=threads)
        self.card = self._graphs.card
        self._form: Form = self._graphs.form
        self._cache = PathCache(self._form, cache_bytes)
        self._steps = encoder.window.steps
        self._most_rows = min(most_rows, self._cache.slots)

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
        encoded = np.frombuffer(b"".join(paths), np.int64)
        encoded = encoded.reshape(len(paths), FEATURES, self._steps)
        results: list[Scores] = []
        for start in range(0, len(paths), self._most_rows):
            if options.terminate:
                raise PredictorTimeout("nobody waits for these scores any more")
            end = start + self._most_rows
            some = None if keys is None else keys[start:end]
            results += scores_of(self.outputs(encoded[start:end], some, options))
        return results

    def outputs(
        self,
        encoded: Ints,
        keys: Sequence[bytes] | None = None,
        options: onnxruntime.RunOptions | None = None,
    ) -> Outputs:
        """What `serving.outputs` names, for paths of shape (N, FEATURES, steps)."""
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
            for each in followed:
                self._keep(*each, keys)
        return said

    def _plan(self, newest: Newest, keys: Sequence[bytes] | None) -> Plan:
        """What the cache knows of each path; the steps themselves say what they continue."""
        slots = np.full(len(newest.lengths), -1, np.intp)
        followed, new = np.zeros_like(newest.lengths), newest.lengths.copy()
        if keys is None:
            return Plan(slots, followed, new)
        found = self._cache.find(keys)
        left = np.flatnonzero(found >= 0)
        # One more step is the rule; none more is the same path again.
        for more in (1, 0, *range(2, self._form.window)):
            if not len(left):
                break
            earlier = self._cache.steps[found[left]]
            same = continues(newest.steps[left], earlier, more, self._form)
            rows, left = left[same], left[~same]
            slots[rows] = found[rows]
            new[rows] = max(more, 1)
            followed[rows] = self._cache.followed[found[rows]] - (more == 0)
        hits = int(np.count_nonzero(slots >= 0))
        self._cache.count(hits, len(keys) - hits)
        return Plan(slots, followed, new)

    def _follow(
        self, newest: Newest, plan: Plan, options: onnxruntime.RunOptions | None
    ) -> tuple[Outputs, list[Made]]:
        def read(layer: int) -> tuple[Floats, Floats]:
            return self._cache.read(layer, plan.slots, plan.followed)

        if plan.new[0] == 1:
            return follow_one(newest, plan.followed, read, self._graphs, options)
        return follow_many(newest, plan.followed, plan.new, read, self._graphs, options)

    def _keep(
        self, newest: Newest, plan: Plan, made: list[Made], rows: Places, keys: Sequence[bytes]
    ) -> None:
        """Keeps the last path of each user in the batch, which goes on where the others stop."""
        last = {key: row for row, key in enumerate(keys)}
        mine = [
            (n, keys[row])
            for n, row in enumerate(rows.tolist())
            if last[keys[row]] == row and newest.steps[n, 0, -1]
        ]
        if not mine:
            return
        chosen = np.array([n for n, _ in mine])
        slots = self._cache.claim([key for _, key in mine])
        followed = plan.followed[chosen] + plan.new[chosen]
        for layer, of in enumerate(made, 1):
            number, back, key, value = kept_of(of, chosen, self._form.window)
            step = followed[number] - 1 - back
            self._cache.write(layer, slots[number], step, key, value)
        self._cache.steps[slots] = newest.steps[chosen]
        self._cache.followed[slots] = followed


def _groups(new: Ints) -> Iterator[Places]:
    """Paths that are followed together: those of one new step, then the others in pieces."""
    one = np.flatnonzero(new == 1)
    if len(one):
        yield one
    more = np.flatnonzero(new > 1)
    for start in range(0, len(more), _LONG_ROWS):
        yield more[start : start + _LONG_ROWS]
