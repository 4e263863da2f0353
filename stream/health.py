"""The worker's pages: /health, /ready and /metrics, and nothing else.

    /health   200 while the worker works, 503 when records wait and for too long none was finished
              or none committed, or when models are to be followed and are not any more
    /ready    200 when states are recovered and partitions assigned, else 503
    /metrics  Prometheus text format

Every page says in one sentence of JSON what it found. No page shows a user's data.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer of a probe.

    Attributes:
        ok: Whether the probe passes.
        why: One sentence.
    """

    ok: bool
    why: str


class Pages:
    """Serves the pages on an address of its own.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one, which `port` then tells.
        alive: Answers /health.
        ready: Answers /ready.
        metrics: Makes the body of /metrics.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        alive: Callable[[], Verdict],
        ready: Callable[[], Verdict],
        metrics: Callable[[], bytes],
    ) -> None:
        self._host = host
        self.port = port
        self._metrics = metrics
        application = web.Application()
        application.router.add_get("/health", _probe(alive))
        application.router.add_get("/ready", _probe(ready))
        application.router.add_get("/metrics", self._metrics_page)
        self._runner = web.AppRunner(application, access_log=None)

    @property
    def address(self) -> str:
        """Where they listen, `host:port`."""
        return f"{self._host}:{self.port}"

    async def start(self) -> None:
        """Begins to listen.

        Raises:
            OSError: The address is taken.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        addresses = self._runner.addresses
        self.port = addresses[0][1]

    async def stop(self) -> None:
        """Stops listening."""
        await self._runner.cleanup()

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), content_type="text/plain", charset="utf-8")


def _probe(ask: Callable[[], Verdict]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def page(_: web.Request) -> web.Response:
        verdict = ask()
        return web.Response(
            status=200 if verdict.ok else 503,
            text=json.dumps({"ok": verdict.ok, "why": verdict.why}) + "\n",
            content_type="application/json",
        )

    return page
