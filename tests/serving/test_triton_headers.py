"""A question to Triton carries the headers of the moment in which it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from serving.repository.fingerprints import Fingerprints, Vouched
from serving.triton.address import Address
from serving.triton.channel import CallHeaders, Channel
from serving.triton.client import CallFailed, Loaded, Slot, VersionClient

HEX = "0123456789abcdef"
FINGERPRINTS = Fingerprints(digest=HEX, encoder=HEX, actions=HEX, steps=2, heads=("purchase",))
LOADED = Loaded(1, Vouched(FINGERPRINTS), 64)


class Listener(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Keeps the metadata of each question, and answers none."""

    def __init__(self) -> None:
        self.heard: list[Mapping[str, str]] = []

    async def ModelInfer(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        self.heard.append(dict(context.invocation_metadata()))
        await context.abort(grpc.StatusCode.INTERNAL, "no answer")


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, Address]]:
    listener, server = Listener(), grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(listener, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield listener, Address(url=f"127.0.0.1:{port}")
    await server.stop(None)


async def ask(address: Address, call_headers: CallHeaders | None, times: int = 1) -> None:
    client = VersionClient(Channel(address, call_headers), "clickpath", LOADED)
    try:
        for _ in range(times):
            with pytest.raises(CallFailed):
                await client.infer(Slot(["purchase"]), np.zeros((1, 4, 2), np.int64), 30.0)
    finally:
        await client.close()


async def test_each_question_carries_the_headers_of_its_moment(
    listener: tuple[Listener, Address],
) -> None:
    server, address = listener
    spans = iter(("00-aa-01-01", "00-aa-02-01"))

    await ask(address, lambda: {"traceparent": next(spans)}, times=2)

    assert [each["traceparent"] for each in server.heard] == ["00-aa-01-01", "00-aa-02-01"]


async def test_without_them_nothing_is_added(listener: tuple[Listener, Address]) -> None:
    server, address = listener

    await ask(address, None)

    assert "traceparent" not in server.heard[0]
