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
from serving.incremental_paths import Newest
from serving.outputs import Outputs

#: Keys and values of the window before some steps, by layer; see `PathCache.read`.
Read = Callable[[int], tuple[Floats, Floats]]


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
    form = graphs.form
    one = np.ones_like(followed)
    step = newest.steps(np.arange(len(one)), one - 1)
    x, key, value = graphs.first(step, newest.told[:, 0, -form.context :], options)
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
    form = graphs.form
    path, place = _newest(new)
    back = new[path] - 1 - place
    nearby = form.reach - 1 - back[:, None] + np.arange(1 - form.context, 1)
    items = newest.told[path[:, None], 0, nearby]
    x, key, value = graphs.first(newest.steps(path, back), items, options)
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
    if len(made.key) == len(made.steps):  # one of each
        number = np.arange(len(chosen))
        return number, np.zeros_like(number), made.key[chosen], made.value[chosen]
    path, place = _newest(made.steps)
    back = made.steps[path] - 1 - place
    number = np.full(len(made.steps), -1)
    number[chosen] = np.arange(len(chosen))
    rows = np.flatnonzero((number[path] >= 0) & (back < window))
    return number[path[rows]], back[rows], made.key[rows], made.value[rows]
