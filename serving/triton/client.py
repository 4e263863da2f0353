"""One version of a model on a Triton server.

tritonclient's errors become ours here, by the table of `serving.triton.answers`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as blocking
from tritonclient.utils import InferenceServerException

from clickpath.errors import ConfigError, ModelMismatch, PredictorUnavailable
from serving.repository.fingerprints import (
    PARAMETER,
    SIGNATURE_PARAMETER,
    Fingerprints,
    Vouched,
)
from serving.triton.address import Address
from serving.triton.answers import Meaning, meaning_of
from serving.triton.channel import Channel

#: For a question that asks no model.
QUICK_S: Final = 2.0

_INPUT = "paths"
_POLL_S = 0.25


class CallFailed(Exception):
    """A call to Triton failed.

    Args:
        meaning: What it means.
        message: With Triton's own words.
    """

    def __init__(self, meaning: Meaning, message: str) -> None:
        super().__init__(message)
        self.meaning = meaning


class Loaded(NamedTuple):
    """What a server says of a loaded version.

    Attributes:
        version: Its number.
        vouched: What it must agree on with its user, and who says so.
        max_batch: Most paths in one request.
    """

    version: int
    vouched: Vouched
    max_batch: int

    @property
    def fingerprints(self) -> Fingerprints:
        """What it must agree on with its user."""
        return self.vouched.fingerprints


def loaded_version(address: Address, model: str, version: int, *, wait_s: float) -> Loaded:
    """What a server says of a version of a model; waits for a server that is starting.

    Args:
        address: Of the server.
        model: Name of the model.
        version: Its number; 0 takes the newest one that is loaded.
        wait_s: How long the server, or the version, may be missing.

    Raises:
        PredictorUnavailable: There is no server or no such version.
        ConfigError: The server wants an admin key for this.
        ModelMismatch: The version is not from a repository that Clickpath wrote.
    """
    deadline_s = time.monotonic() + wait_s
    with blocking.InferenceServerClient(**address.client_arguments()) as client:
        while True:
            try:
                return _ask(client, address, model, version)
            except InferenceServerException as error:
                meaning = meaning_of(error.status(), error.message())
                if meaning is Meaning.KEY_REFUSED:
                    raise refused(address, error) from error
                waiting = (Meaning.NO_CONNECTION, Meaning.NOT_READY, Meaning.DEADLINE)
                if meaning not in waiting or time.monotonic() > deadline_s:
                    number = f"version {version}" if version else "any version"
                    raise PredictorUnavailable(
                        f"Triton at {address.url} does not serve {number} of the model {model}: "
                        f"{error.message()}"
                    ) from error
            time.sleep(_POLL_S)


def refused(address: Address, error: InferenceServerException) -> ConfigError:
    """What a server says that refuses the admin key."""
    return ConfigError(
        f"Triton at {address.url} refuses the admin key of CLICKPATH_TRITON_ADMIN_KEY_FILE: "
        f"{error.message()}"
    )


def _ask(
    client: blocking.InferenceServerClient, address: Address, model: str, version: int
) -> Loaded:
    headers = address.admin_headers()
    if not version:
        metadata = client.get_model_metadata(model, headers=headers, client_timeout=QUICK_S)
        version = max(map(int, metadata.versions), default=0)
    config = client.get_model_config(
        model, str(version), headers=headers, client_timeout=QUICK_S
    ).config
    return loaded_by(config, version, address, model)


def loaded_by(config: Any, version: int, address: Address, model: str) -> Loaded:
    """What a server's configuration of a model says of a version.

    Raises:
        ModelMismatch: Nothing.
    """
    key, where = f"{PARAMETER}{version}", f"model {model} at {address.url}, version {version},"
    if key not in config.parameters:
        raise ModelMismatch(
            f"the {where} has no parameter {key}: it is not from a repository that Clickpath "
            "wrote, or was not loaded since"
        )
    fingerprints = Fingerprints.read(config.parameters[key].string_value, where)
    signature = config.parameters[f"{SIGNATURE_PARAMETER}{version}"].string_value
    return Loaded(version, Vouched(fingerprints, signature), config.max_batch_size)


class Slot:
    """The input and the outputs of one call at a time, made once and used again."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.input = blocking.InferInput(_INPUT, [1, 1, 1], "INT64")
        self.outputs = [blocking.InferRequestedOutput(name) for name in outputs]


class VersionClient:
    """Calls to one version of a model.

    Args:
        channel: Over which they go; held until `close`.
        model: Name of the model.
        loaded: The version.
    """

    def __init__(self, channel: Channel, model: str, loaded: Loaded) -> None:
        self._channel = channel.held()
        self._address = channel.address
        self._model = model
        self._loaded = loaded
        self._version = str(loaded.version)

    async def infer(
        self, slot: Slot, paths: npt.NDArray[np.int64], deadline_s: float
    ) -> dict[str, npt.NDArray[Any]]:
        """The outputs for paths of shape (batch, FEATURES, time), by name.

        A number a row comes as (batch, 1): Triton knows no tensor of the batch alone.

        Args:
            slot: Free at the moment.
            paths: At most as many as the model takes.
            deadline_s: Seconds from now.

        Raises:
            CallFailed: There is no answer.
        """
        slot.input.set_shape(paths.shape)
        slot.input.set_data_from_numpy(paths)
        try:
            result = await self._channel.client.infer(
                self._model,
                [slot.input],
                model_version=self._version,
                outputs=slot.outputs,
                headers=self._channel.headers(),
                # Nobody waits longer than the call, so the server's queue need not keep it longer.
                timeout=max(int(deadline_s * 1e6), 1),
                client_timeout=deadline_s,
            )
        except InferenceServerException as error:
            raise self._failed(error) from error
        outputs = {output.name(): result.as_numpy(output.name()) for output in slot.outputs}
        for name, of in outputs.items():
            if of is None:
                raise CallFailed(Meaning.FAILED, f"Triton at {self._address.url} gave no {name}")
        return outputs

    async def is_the_same(self) -> bool:
        """Whether the version is ready, and still the one that it was.

        Raises:
            CallFailed: There is no answer.
        """
        headers = self._address.admin_headers()
        try:
            ready = await self._channel.client.is_model_ready(
                self._model, self._version, client_timeout=QUICK_S
            )
            answer = await self._channel.client.get_model_config(
                self._model, self._version, headers=headers, client_timeout=QUICK_S
            )
        except InferenceServerException as error:
            raise self._failed(error) from error
        loaded = loaded_by(answer.config, self._loaded.version, self._address, self._model)
        return bool(ready) and loaded == self._loaded

    async def close(self) -> None:
        """Needs the channel no more."""
        await self._channel.release()

    def _failed(self, error: InferenceServerException) -> CallFailed:
        meaning = meaning_of(error.status(), error.message())
        return CallFailed(meaning, f"Triton at {self._address.url}: {error.message()}")
