"""Following paths through the layers of a model, from what is cached of them.

Steps of one path go through a layer together, each as a row of its own: they need only what the
layer before made of them. A layer makes those steps only that the next one looks at, and the last
one is asked about the last step alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from serving.incremental_cache import Places
from serving.incremental_graphs import Floats, Form, Ints, StepGraphs, Window
from serving.outputs import Outputs

_ITEM, _POSITION = 1, 5

#: Keys and values of the window before some steps, by layer; see `PathCache.read`.
Read = Callable[[int], tuple[Floats, Floats]]


class Newest(NamedTuple):
    """The newest steps of paths, as far as a model looks, the last one last.

    Attributes:
        steps: Shape (N, FEATURES, reach); zeros before the first step.
        lengths: How many of them have to be followed where nothing is known, (N,), from 1.
    """

    steps: Ints
    lengths: Ints

    def of(self, rows: Places) -> Newest:
        """Those of some paths."""
        return Newest(self.steps[rows], self.lengths[rows])


class Made(NamedTuple):
    """What a layer keeps of the steps that were followed.

    Attributes:
        steps: Of each path, how many of its newest steps, (N,).
        key: Shape (sum of `steps`, width), path by path, oldest first.
        value: The same.
    """

    steps: Ints
    key: Floats
    value: Floats


def newest_of(encoded: Ints, form: Form) -> Newest:
    """The newest steps of encoded paths, (N, FEATURES, steps) with padding at the end."""
    reach, steps = form.reach, encoded.shape[2]
    lengths = np.count_nonzero(encoded[:, 0], axis=1)
    if (lengths == steps).all():
        newest = encoded[:, :, -reach:].copy()
    else:
        at = lengths[:, None] + np.arange(-reach, 0)  # (N, reach)
        newest = np.take_along_axis(encoded, np.maximum(at, 0)[:, None], 2)
        newest *= (at >= 0)[:, None]
    np.minimum(newest[:, _POSITION], form.context, out=newest[:, _POSITION])
    return Newest(newest, np.clip(lengths, 1, form.asked(0)))


def continues(newest: Ints, earlier: Ints, new: int, form: Form) -> npt.NDArray[np.bool_]:
    """Which paths are earlier ones with so many steps more, as far as it can make a difference.

    Args:
        newest: Shape (N, FEATURES, reach).
        earlier: The same of the earlier ones.
        new: How many steps more.
        form: How far the model looks at a step, and how far at its item only.
    """
    end, first = form.reach - new, form.context - 1
    items: npt.NDArray[np.bool_] = newest[:, _ITEM, :first] == earlier[:, _ITEM, new : first + new]
    whole = newest[:, :, first:end] == earlier[:, :, first + new :]
    same: npt.NDArray[np.bool_] = items.all(1) & whole.all((1, 2))
    return same


def follow_one(
    newest: Newest,
    followed: Ints,
    read: Read,
    graphs: StepGraphs,
    options: onnxruntime.RunOptions | None,
) -> tuple[Outputs, list[Made]]:
    """Follows paths of one new step each.

    Args:
        newest: The paths.
        followed: How many steps of each were followed before, (N,).
        read: What was kept of them.
        graphs: Of the model.
        options: For runs that can be told to stop.
    """
    form, steps = graphs.form, newest.steps
    one = np.ones_like(followed)
    x, key, value = graphs.first(steps[:, :, -1], steps[:, _ITEM, -form.context :], options)
    made = [Made(one, key, value)]
    seen = np.minimum(followed + 1, form.window)
    for layer in range(1, form.layers + 1):
        keys, values = read(layer)
        keys[:, -1], values[:, -1] = key, value
        window = {"x": x, "keys": keys, "values": values, "seen": seen}
        if layer == form.layers:
            return graphs.last(window, options), made
        x, key, value = graphs.layer(layer, window, options)
        made.append(Made(one, key, value))
    raise AssertionError("a model has at least one layer")


def follow_many(
    newest: Newest,
    followed: Ints,
    new: Ints,
    read: Read,
    graphs: StepGraphs,
    options: onnxruntime.RunOptions | None,
) -> tuple[Outputs, list[Made]]:
    """Follows paths of any number of new steps; see `follow_one`.

    Args:
        newest: The paths.
        followed: How many steps of each were followed before, (N,).
        new: How many are to be followed now, (N,), from 1.
        read: What was kept of them.
        graphs: Of the model.
        options: For runs that can be told to stop.
    """
    form, steps = graphs.form, newest.steps
    path, place = _newest(new)
    at = form.reach - new[path] + place
    nearby = at[:, None] + np.arange(1 - form.context, 1)
    x, key, value = graphs.first(steps[path, :, at], steps[path[:, None], _ITEM, nearby], options)
    made = [Made(new, key, value)]
    for layer in range(1, form.layers + 1):
        count = np.minimum(new, form.asked(layer))
        window = _windows(made[-1], count, followed, read(layer), form)
        window["x"] = x[_end_of(made[-1].steps, count)]
        if layer == form.layers:
            return graphs.last(window, options), made
        x, key, value = graphs.layer(layer, window, options)
        made.append(Made(count, key, value))
    raise AssertionError("a model has at least one layer")


def _windows(
    made: Made, count: Ints, followed: Ints, kept: tuple[Floats, Floats], form: Form
) -> Window:
    """The windows of each path's last `count` steps, of what is cached and what is made."""
    size = form.window
    path, place = _newest(count)
    at = made.steps[path] - count[path] + place  # among the steps that were made
    back = at[:, None] + np.arange(1 - size, 1)  # (M, W), below 0 in the cache
    start = np.cumsum(made.steps) - made.steps
    rows = np.where(
        back >= 0,
        len(made.steps) * size + start[path][:, None] + back,
        path[:, None] * size + size - 1 + back,
    )
    keys, values = (
        np.concatenate([cached.reshape(-1, form.width), fresh]).take(rows, 0)
        for cached, fresh in zip(kept, made[1:], strict=True)
    )
    return {"keys": keys, "values": values, "seen": np.minimum(followed[path] + at + 1, size)}


def _newest(count: Ints) -> tuple[Ints, Ints]:
    """For so many steps of each path, one behind the other: the path, and which of them it is."""
    path = np.repeat(np.arange(len(count)), count)
    start = np.cumsum(count) - count
    return path, np.arange(len(path)) - start[path]


def _end_of(count: Ints, some: Ints) -> npt.NDArray[np.bool_]:
    """Among `count` steps of each path, one behind the other, the last `some` of each."""
    path, place = _newest(count)
    last: npt.NDArray[np.bool_] = place >= (count - some)[path]
    return last


def kept_of(made: Made, chosen: Places, window: int) -> tuple[Places, Ints, Floats, Floats]:
    """What a ring takes of a layer's steps: path, how far from the last step, key and value.

    Args:
        made: Of all paths.
        chosen: The paths that are kept, as places; shape (K,).
        window: How many steps a ring holds.
    """
    path, place = _newest(made.steps)
    back = made.steps[path] - 1 - place
    number = np.full(len(made.steps), -1)
    number[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero((number[path] >= 0) & (back < window))
    return number[path[rows]], back[rows], made.key[rows], made.value[rows]
