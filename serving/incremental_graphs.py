"""The step graphs of a model in onnxruntime: a path is followed, step by step.

L layers, D width, W places in a window, C steps that a step is told about, N steps in a run, each
of any path, and every one on its own.

    file         inputs                                           outputs
    step-0.onnx  step (N, FEATURES), items (N, C)                 y, key, value (N, D)
    step-n.onnx  x (N, D), keys and values (N, W, D), seen (N,)   y, key, value (N, D)
    step-L.onnx  the same                                         those of `model.onnx`

`items` are those of the C steps up to the step, its own last, 0 where there is none; its place in
the session counts up to C. A window holds what the run before it gave for the W steps up to the
step, its own last; `seen` says how many of the places, from the last one, are steps.

What a run says of a step is the same, bit for bit, whichever steps it is accompanied by; of a
single one onnxruntime would sum in another order, hence it runs twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import ModelMismatch, PredictorUnavailable
from serving.card import Card, check_card, read_card, read_model, read_step_graphs
from serving.graph import open_session, run_session
from serving.outputs import Outputs, output_names, scores_of, wrong_shape

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

#: What a layer is given.
Window = dict[str, npt.NDArray[Any]]

_MADE = ("y", "key", "value")


@dataclass(frozen=True, slots=True)
class Form:
    """How far a model looks.

    Attributes:
        layers: L.
        width: D.
        window: W.
        context: C.
    """

    layers: int
    width: int
    window: int
    context: int

    def asked(self, layer: int) -> int:
        """How many of the newest steps must have gone through a layer, for the last to be right.

        Args:
            layer: From 1; 0 stands for the embedding.
        """
        return (self.layers - layer) * (self.window - 1) + 1

    @property
    def reach(self) -> int:
        """How many of the newest steps can change what is said after the last one."""
        return self.asked(0) + self.context - 1


class StepGraphs:
    """The step graphs of a model in a directory.

    Args:
        directory: Holds the model and its card.
        encoder: The encoder whose paths it will be given.
        threads: Threads within one run.

    Raises:
        ModelMismatch: The model has none, or they fit neither its card nor the contract above.
    """

    def __init__(self, directory: Path, encoder: Encoder, *, threads: int = 1) -> None:
        self.card: Card = read_card(directory)
        check_card(self.card, read_model(directory), encoder, directory)
        graphs = read_step_graphs(self.card, directory)
        self._sessions = [open_session(graph, threads, directory) for graph in graphs]
        self._names = output_names(self.card.heads)
        self.form = self._form(directory)
        if self.form.reach > encoder.window.steps:
            raise ModelMismatch(
                f"the model in {directory} looks back {self.form.reach} steps, "
                f"the window keeps {encoder.window.steps}"
            )
        self._check(directory)

    def first(
        self, step: Ints, items: Ints, options: onnxruntime.RunOptions | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Steps as vectors, with the first layer's keys and values.

        Raises:
            PredictorUnavailable: The run failed, or was told to stop.
        """
        x, key, value = self._run(0, _MADE, {"step": step, "items": items}, options)
        return x, key, value

    def layer(
        self,
        number: int,
        window: Window,
        options: onnxruntime.RunOptions | None = None,
    ) -> tuple[Floats, Floats, Floats]:
        """Steps after a layer that is not the last, with the next one's keys and values.

        Args:
            number: The layer, from 1.
            window: `x`, `keys`, `values` and `seen`.
            options: For a run that can be told to stop.

        Raises:
            PredictorUnavailable: The run failed, or was told to stop.
        """
        x, key, value = self._run(number, _MADE, window, options)
        return x, key, value

    def last(
        self,
        window: Window,
        options: onnxruntime.RunOptions | None = None,
    ) -> Outputs:
        """What the heads say after the last layer; see `layer`."""
        outputs = self._run(self.form.layers, self._names, window, options)
        return dict(zip(self._names, outputs, strict=True))

    def _run(
        self,
        number: int,
        names: tuple[str, ...],
        inputs: Window,
        options: onnxruntime.RunOptions | None,
    ) -> list[npt.NDArray[Any]]:
        session = self._sessions[number]
        if len(next(iter(inputs.values()))) > 1:
            return run_session(session, names, inputs, options)
        twice = {name: np.repeat(of, 2, 0) for name, of in inputs.items()}
        return [of[:1] for of in run_session(session, names, twice, options)]

    def _form(self, directory: Path) -> Form:
        shapes = [{each.name: each.shape for each in s.get_inputs()} for s in self._sessions]
        try:
            _, context = shapes[0]["items"]
            _, window, width = shapes[1]["keys"]
        except (IndexError, KeyError, ValueError) as error:
            raise ModelMismatch(f"the step graphs in {directory} have other inputs") from error
        if not all(isinstance(size, int) and size > 0 for size in (context, window, width)):
            raise ModelMismatch(
                f"the step graphs in {directory} have no fixed sizes: "
                f"{context!r}, {window!r}, {width!r}"
            )
        return Form(len(shapes) - 1, width, window, context)

    def _check(self, directory: Path) -> None:
        """Follows two paths for one step, which warms the graphs as well."""
        form = self.form
        try:
            x, key, value = self.first(
                np.ones((2, FEATURES), np.int64), np.ones((2, form.context), np.int64)
            )
            for layer in range(1, form.layers + 1):
                window: Window = {
                    "x": x,
                    "keys": np.repeat(key[:, None], form.window, 1),
                    "values": np.repeat(value[:, None], form.window, 1),
                    "seen": np.ones(2, np.int64),
                }
                if layer < form.layers:
                    x, key, value = self.layer(layer, window)
                else:
                    outputs = self.last(window)
            wrong = wrong_shape(outputs, rows=2)
            if wrong is not None:
                raise ModelMismatch(f"the last step graph in {directory} {wrong}")
            scores_of(outputs)
        except (PredictorUnavailable, ValueError) as error:
            raise ModelMismatch(f"the step graphs in {directory} cannot be run: {error}") from error
