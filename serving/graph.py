"""A model's graph in onnxruntime: checked when it is loaded, then run, nothing else.

Errors of onnxruntime become ours here, by `_RUNTIME_ERRORS`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

from clickpath.encoding import FEATURES, Encoder
from clickpath.errors import ModelMismatch, PredictorUnavailable
from serving.batches import time_buckets
from serving.card import Card, check_card, read_card, read_model
from serving.outputs import Outputs, output_names, scores_of, wrong_shape

INPUT_NAME: Final = "paths"

#: Everything that onnxruntime raises: none of them has a base class in common but `Exception`.
_RUNTIME_ERRORS: Final = (
    runtime_state.DeviceReset,
    runtime_state.EngineError,
    runtime_state.EPFail,
    runtime_state.Fail,
    runtime_state.InvalidArgument,
    runtime_state.InvalidGraph,
    runtime_state.InvalidProtobuf,
    runtime_state.ModelLoadCanceled,
    runtime_state.ModelLoaded,
    runtime_state.ModelRequiresCompilation,
    runtime_state.NoModel,
    runtime_state.NoSuchFile,
    runtime_state.NotFound,
    runtime_state.NotImplemented,
    runtime_state.RuntimeException,
)


class Tensor(NamedTuple):
    """An input or output as the graph itself declares it.

    Attributes:
        name: Its name.
        type: onnxruntime's name of the element type, such as `tensor(int64)`.
        shape: With the batch; None where a dimension is free.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]


class Signature(NamedTuple):
    """What a graph takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def signature_of(model: bytes, directory: Path) -> Signature:
    """What a graph takes and gives, by its own declaration.

    Args:
        model: The content of a model file.
        directory: How to call the model in messages.

    Raises:
        ModelMismatch: onnxruntime cannot load it.
    """
    session = open_session(model, 1, directory)

    def declared(args: list[onnxruntime.NodeArg]) -> tuple[Tensor, ...]:
        return tuple(
            Tensor(
                arg.name,
                arg.type,
                tuple(size if isinstance(size, int) else None for size in arg.shape),
            )
            for arg in args
        )

    return Signature(declared(session.get_inputs()), declared(session.get_outputs()))


class Graph:
    """The graph of a model in a directory; see `serving.card` for its files.

    Args:
        directory: Holds the model and its card.
        encoder: The encoder whose paths it will be given.
        threads: Threads within one run. More than one may change the last bits of a probability.
        every_head: Whether to load the graph with all heads, in place of the worker's.

    Raises:
        ModelMismatch: The model fits neither its card, the encoder nor the contract.
    """

    def __init__(
        self, directory: Path, encoder: Encoder, *, threads: int = 1, every_head: bool = False
    ) -> None:
        self.card: Card = read_card(directory)
        model = read_model(directory, every_head=every_head)
        check_card(self.card, model, encoder, directory, every_head=every_head)
        self.heads = self.card.all_heads if every_head else self.card.heads
        self._steps = encoder.window.steps
        self._names = output_names(self.heads)
        self._session = open_session(model, threads, directory)
        self._check(directory)

    def run(
        self, paths: npt.NDArray[np.int64], options: onnxruntime.RunOptions | None = None
    ) -> Outputs:
        """The outputs for paths of shape (batch, FEATURES, time), by name.

        Raises:
            PredictorUnavailable: The run failed, or was told to stop.
        """
        outputs = run_session(self._session, self._names, {INPUT_NAME: paths}, options)
        return dict(zip(self._names, outputs, strict=True))

    def _check(self, directory: Path) -> None:
        """Runs paths of each length through the model, which warms it as well."""
        there = {output.name for output in self._session.get_outputs()}
        missing = [name for name in self._names if name not in there]
        if missing:
            raise ModelMismatch(
                f"the model in {directory} has no output {missing[0]}, but its card names the head"
            )
        for length in time_buckets(self._steps):
            try:
                outputs = self.run(np.ones((2, FEATURES, length), dtype=np.int64))
            except (PredictorUnavailable, ValueError) as error:
                raise ModelMismatch(f"the model in {directory} cannot be run: {error}") from error
            wrong = wrong_shape(outputs, rows=2)
            if wrong is not None:
                raise ModelMismatch(f"the model in {directory} {wrong}")
            try:
                scores_of(outputs)
            except PredictorUnavailable as error:
                raise ModelMismatch(f"the model in {directory}: {error}") from error


def open_session(model: bytes, threads: int, directory: Path) -> onnxruntime.InferenceSession:
    """A graph in onnxruntime.

    Args:
        model: The content of its file.
        threads: Threads within one run.
        directory: How to call it in messages.

    Raises:
        ModelMismatch: It is no graph that can be run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only: whatever fails is raised
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _RUNTIME_ERRORS as error:
        raise ModelMismatch(f"onnxruntime cannot load the model in {directory}: {error}") from error


def run_session(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    inputs: Mapping[str, npt.NDArray[Any]],
    options: onnxruntime.RunOptions | None,
) -> list[npt.NDArray[Any]]:
    """The outputs with these names.

    Raises:
        PredictorUnavailable: The run failed, or was told to stop.
    """
    try:
        outputs: list[npt.NDArray[Any]] = session.run(names, inputs, options)
    except _RUNTIME_ERRORS as error:
        raise PredictorUnavailable(f"the embedded model failed: {error}") from error
    return outputs
