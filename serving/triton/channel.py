"""One long-lived connection to Triton, shared by all that ask it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import tritonclient.grpc.aio as asynchronous

from serving.triton.address import Address

#: Makes the headers of a question at the time when it is asked.
CallHeaders = Callable[[], Mapping[str, str]]


class Channel:
    """A client of tritonclient's, made when it is first asked for and closed by the last who goes.

    Args:
        address: Of the server, or of several behind one name.
        call_headers: Gives the headers of each question; None sends none.
    """

    def __init__(self, address: Address, call_headers: CallHeaders | None = None) -> None:
        self.address = address
        self._call_headers = call_headers
        self._client: asynchronous.InferenceServerClient | None = None
        self._held = 0

    @property
    def client(self) -> asynchronous.InferenceServerClient:
        """The client; to be asked for where an event loop runs."""
        if self._client is None:
            self._client = asynchronous.InferenceServerClient(**self.address.client_arguments())
        return self._client

    def headers(self) -> dict[str, str] | None:
        """The headers of a question that is asked now."""
        return None if self._call_headers is None else dict(self._call_headers())

    def held(self) -> Self:
        """Keeps it open until `release`."""
        self._held += 1
        return self

    async def release(self) -> None:
        """One who held it needs it no more."""
        self._held -= 1
        if not self._held and self._client is not None:
            client, self._client = self._client, None
            await client.close()
