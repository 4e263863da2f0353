"""A worker in a process of its own, watched through its pages, as an operator would watch it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from clickpath.errors import FatalError

#: A sample of a metric: name without the prefix, and its one label's value ("" without labels).
Samples = Mapping[tuple[str, str], float]


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


_HOST: Final = "127.0.0.1"


class WorkerProcess:
    """Starts `clickpath worker`, asks its pages, and stops it.

    Args:
        bootstrap_servers: The brokers.
        log: File that takes what the worker prints.
        environ: More variables for it, over those of this process.
    """

    def __init__(
        self, bootstrap_servers: str, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self._environ = {
            **os.environ,
            "CLICKPATH_BOOTSTRAP_SERVERS": bootstrap_servers,
            "CLICKPATH_SESSION_TIMEOUT_S": "6",
            **(environ or {}),
            # Where this class asks for its pages.
            "CLICKPATH_WEB_HOST": _HOST,
        }
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pages(self) -> str:
        """Where its pages are."""
        return f"http://{_HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> str:
        """Where its pages are."""
        return f"http://{_HOST}:{self._port}"

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.returncode

    async def start(self) -> None:
        """Starts it, without waiting for anything."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "clickpath",
                "worker",
                "--web-port",
                str(self._port),
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def wait_ready(self, timeout_s: float) -> None:
        """Waits until its states are recovered and its partitions assigned.

        Raises:
            FatalError: It ended, or took too long; with the end of its log.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while loop.time() < until_s:
            self._check_running()
            status, _ = await self.page("/ready")
            if status == 200:
                return
            await asyncio.sleep(0.1)
        raise FatalError(f"the worker was not ready within {timeout_s:.0f} s\n{self.log_tail()}")

    async def samples(self) -> Samples:
        """Its metrics as of now; empty when it does not answer.

        Raises:
            FatalError: It ended.
        """
        self._check_running()
        status, text = await self.page("/metrics")
        if status != 200:
            return {}
        return {
            (sample.name.removeprefix("clickpath_"), next(iter(sample.labels.values()), "")): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of one of its pages; status 0 when nobody answers."""
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.address + path) as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def stop(self, timeout_s: float = 90.0) -> int:
        """Asks it to finish what it has in hand and to stop; returns its exit code.

        Raises:
            FatalError: It did not stop in time and was killed.
        """
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), timeout_s)
        except TimeoutError as error:
            await self.kill()
            raise FatalError(
                f"the worker did not stop within {timeout_s:.0f} s\n{self.log_tail()}"
            ) from error

    async def wait(self) -> int:
        """Waits until it ends; its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def kill(self) -> None:
        """Ends it at once, as a crash would."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The end of what it printed."""
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _check_running(self) -> None:
        if self.exit_code is not None:
            raise FatalError(f"the worker ended with exit code {self.exit_code}\n{self.log_tail()}")
