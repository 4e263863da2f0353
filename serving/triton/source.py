"""Versions of a model on Triton, for a worker that follows which of them decides.

    digest on the models topic -> directory in the repository -> number -> loaded on every server
                                  manifest, signature, encoder            same fingerprints there

What is checked in the directory is what Triton reads: it is the same one. All versions are asked
over one channel.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickpath.encoding import Encoder
from clickpath.errors import ClickpathError
from clickpath.steps import UNKNOWN_PRICE, Step
from serving.predictor import Predictor
from serving.repository.fingerprints import Vouched
from serving.repository.folder import TritonFolder
from serving.triton.address import Address
from serving.triton.channel import CallHeaders, Channel
from serving.triton.loading import loaded_everywhere
from serving.triton.predictor import TritonPredictor, Tuning

logger = logging.getLogger(__name__)

#: For the first answer of a version, which Triton has warmed itself.
_WARM_S: Final = 10.0

#: Between two looks at a version that servers are said to miss.
_AGAIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A version as the repository has it."""

    number: int
    vouched: Vouched
    directory: Path


class TritonSource:
    """Versions in a repository that Triton serves; see `serving.versions.ModelSource`.

    Args:
        address: Of the servers.
        folder: The repository, which they read.
        encoder: The encoder whose paths the versions will be given.
        call_headers: Gives the headers of each call, such as the context of a trace; None sends
            none.
        tuning: How the versions are asked.
    """

    def __init__(
        self,
        address: Address,
        folder: TritonFolder,
        encoder: Encoder,
        *,
        call_headers: CallHeaders | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self._address = address
        self._folder = folder
        self._encoder = encoder
        self._tuning = tuning
        self._channel = Channel(address, call_headers).held()
        self._mending: asyncio.Task[None] | None = None

    async def load(self, version: str) -> Predictor:
        """See `ModelSource`; every server has loaded the version then."""
        wanted = await asyncio.to_thread(self._wanted, version)
        loaded = await loaded_everywhere(
            self._address, self._folder.name, wanted.number, wanted.vouched, wanted.directory
        )
        predictor = TritonPredictor(
            self._channel,
            self._encoder,
            loaded,
            model=self._folder.name,
            tuning=self._tuning,
            missing=lambda: self._mend(wanted),
        )
        try:
            await predictor.predict([self._path()], _WARM_S)
        except BaseException:
            await predictor.close()
            raise
        return predictor

    async def close(self) -> None:
        """Lets go of the channel."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait([self._mending])
        await self._channel.release()

    def _wanted(self, version: str) -> _Wanted:
        directory, card = self._folder.checked(version)
        vouched = Vouched.of(directory, card)
        vouched.fingerprints.check(self._encoder, f"model in {directory}")
        return _Wanted(int(directory.name), vouched, directory)

    def _mend(self, wanted: _Wanted) -> None:
        """Has a server that does not have a version load it, in the background."""
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._load_again(wanted))

    async def _load_again(self, wanted: _Wanted) -> None:
        try:
            await loaded_everywhere(
                self._address, self._folder.name, wanted.number, wanted.vouched, wanted.directory
            )
        except ClickpathError as error:
            logger.warning("a version is missing on Triton still: %s", error)
        # Whoever misses it says so with every call.
        await asyncio.sleep(_AGAIN_S)

    def _path(self) -> array[int]:
        step = Step(
            ts_ms=0,
            event=0,
            action=1,
            item=0,
            category=0,
            price_cents=UNKNOWN_PRICE,
            value_cents=0,
            lines=(),
        )
        return self._encoder.encode_steps((step,))
