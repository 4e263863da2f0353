"""Has servers load a version, each server behind the name, and looks at what they say of it.

Rules

1.  What a server loads stands in its repository; it is only told to look again. Versions that it
    serves go on answering meanwhile, from their old copies until the new ones are ready.
2.  A server that has the version, with these fingerprints, is told nothing.
3.  One that cannot be reached is passed over as long as another one serves the version: it will
    load what stands in the repository when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

import tritonclient.grpc.aio as asynchronous
from tritonclient.utils import InferenceServerException

from clickpath.errors import ModelMismatch, PredictorUnavailable
from serving.repository.fingerprints import Vouched
from serving.triton.address import Address
from serving.triton.answers import Meaning, meaning_of
from serving.triton.client import QUICK_S, Loaded, loaded_by, refused

logger = logging.getLogger(__name__)

#: For a load: on a GPU, engines may have to be built for the version.
LOAD_S: Final = 300.0

_GONE: Final = (Meaning.NO_CONNECTION, Meaning.DEADLINE)


class _Unreachable(PredictorUnavailable):
    """A server does not answer."""


async def loaded_everywhere(
    address: Address, model: str, number: int, expected: Vouched, directory: Path
) -> Loaded:
    """Sees to it that every server behind a name serves a version.

    Args:
        address: Of the servers.
        model: Name of the model.
        number: Of the version.
        expected: What the servers must say of it.
        directory: Where the version lies here, for messages.

    Raises:
        ModelMismatch: A server says something else of it.
        PredictorUnavailable: No server answers, or one cannot load it.
        ConfigError: A server refuses the admin key.
    """
    servers = await asyncio.to_thread(address.servers)
    answers = await asyncio.gather(
        *(_loaded_by(each, model, number, expected, directory) for each in servers),
        return_exceptions=True,
    )
    found = [each for each in answers if isinstance(each, Loaded)]
    for each in answers:
        if isinstance(each, BaseException):
            if not (found and isinstance(each, _Unreachable)):
                raise each
            logger.warning("version %d is served without one of the servers: %s", number, each)
    return found[0]


async def load_model(address: Address, model: str, *, timeout_s: float = LOAD_S) -> None:
    """Has one server load what its repository says by now; it serves on meanwhile.

    Raises:
        PredictorUnavailable: It does not answer, or cannot load the model; with its own words.
        ConfigError: It refuses the admin key.
    """
    client = asynchronous.InferenceServerClient(**address.client_arguments())
    try:
        await client.load_model(model, headers=address.admin_headers(), client_timeout=timeout_s)
    except InferenceServerException as error:
        meaning = meaning_of(error.status(), error.message())
        if meaning is Meaning.KEY_REFUSED:
            raise refused(address, error) from error
        gone = _Unreachable if meaning in _GONE else PredictorUnavailable
        raise gone(
            f"Triton at {address.url} does not load the model {model}: {error.message()}"
        ) from error
    finally:
        await client.close()


async def _loaded_by(
    server: Address, model: str, number: int, expected: Vouched, directory: Path
) -> Loaded:
    loaded = await _said_by(server, model, number)
    if loaded is None or loaded.vouched != expected:
        logger.info("Triton at %s is told to load version %d of %s", server.url, number, model)
        try:
            await load_model(server, model)
        except _Unreachable:
            raise
        except PredictorUnavailable:
            # One version that cannot be loaded fails the load, and the others are served.
            if await _said_by(server, model, number) is None:
                raise
        loaded = await _said_by(server, model, number)
    if loaded is None:
        raise PredictorUnavailable(
            f"Triton at {server.url} does not serve version {number} of the model {model}, and "
            f"did not load it when told to: its repository must be the one of {directory}, with a "
            "config.pbtxt that names the version"
        )
    if difference := loaded.fingerprints.differs(expected.fingerprints):
        raise ModelMismatch(
            f"Triton at {server.url} and {directory} differ in version {number} of the model "
            f"{model}: {difference}"
        )
    return loaded


async def _said_by(server: Address, model: str, number: int) -> Loaded | None:
    """What a server says of a version; None where it is not ready."""
    client = asynchronous.InferenceServerClient(**server.client_arguments())
    try:
        # The configuration is told of what is loaded only, be it ready or on its way out.
        if not await client.is_model_ready(model, str(number), client_timeout=QUICK_S):
            return None
        answer = await client.get_model_config(
            model, str(number), headers=server.admin_headers(), client_timeout=QUICK_S
        )
        return loaded_by(answer.config, number, server, model)
    except ModelMismatch:
        # It has not read its configuration since the version was added.
        return None
    except InferenceServerException as error:
        meaning = meaning_of(error.status(), error.message())
        if meaning is Meaning.KEY_REFUSED:
            raise refused(server, error) from error
        if meaning is Meaning.NOT_READY:
            return None
        raise _Unreachable(f"Triton at {server.url} does not answer: {error.message()}") from error
    finally:
        await client.close()
