"""Who works while workers are killed: one at a time, or two that stand by for each other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Protocol

from stream.process import WorkerProcess
from tests.promises.shop import PARTITIONS, Shop, until_handled

_PATIENCE_S = 240.0


class Crew(Protocol):
    """The workers of a shop, one of which is killed now and then."""

    async def start(self) -> None:
        """Brings everybody to work."""

    async def handled(self, events: float, behind: int) -> None:
        """Waits until so many events were handled that are no repetition of those `behind`."""

    async def kill(self) -> None:
        """Kills one."""

    async def taken_over(self) -> None:
        """Waits until all partitions are ready again."""

    async def complete(self) -> WorkerProcess:
        """Brings the crew up to its number again; one of those at work."""

    async def stop(self) -> list[int]:
        """Tells all to stop; their exit codes."""

    async def end(self) -> None:
        """Kills all that are left."""


class Lone:
    """One worker at a time; the next one starts once it was killed."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._worker = shop.worker()

    async def start(self) -> None:
        await self._worker.start()
        await self._worker.wait_ready(120)

    async def handled(self, events: float, behind: int) -> None:
        await until_handled(self._worker, events + behind)

    async def kill(self) -> None:
        await self._worker.kill()
        self._worker = self._shop.worker()

    async def taken_over(self) -> None:
        await self.start()

    async def complete(self) -> WorkerProcess:
        return self._worker

    async def stop(self) -> list[int]:
        return [await self._worker.stop()]

    async def end(self) -> None:
        await self._worker.kill()


class Pair:
    """Two workers, each with standbys of the other's partitions; the older one is killed."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self._shop = shop
        self._folder = folder
        self._workers: list[WorkerProcess] = []
        self._started = 0
        self._before = 0.0

    async def start(self) -> None:
        for _ in range(2):
            await self._join()
        await self.complete()

    async def _join(self) -> None:
        self._started += 1
        # Where states are on disk, nobody finds what a dead one has left.
        place = str(self._folder / f"states-{self._started}")
        on_disk = self._shop.settings.store == "rocksdb"
        worker = self._shop.worker({"CLICKPATH_STORE_DIR": place} if on_disk else None)
        await worker.start()
        self._workers.append(worker)

    async def handled(self, events: float, behind: int) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while await self._count() < self._before + events:
                pass

    async def _count(self) -> float:
        samples = [await each.samples() for each in self._workers]
        return sum(
            value for some in samples for (name, _), value in some.items() if name == "events_total"
        )

    async def kill(self) -> None:
        await self._workers.pop(0).kill()

    async def taken_over(self) -> None:
        (survivor,) = self._workers
        await self._until_ready(survivor, PARTITIONS)

    async def complete(self) -> WorkerProcess:
        if len(self._workers) < 2:
            await self._join()
        for worker in self._workers:
            await self._until_ready(worker, PARTITIONS // 2)
        await self._shop.handled(self._workers[0])
        for worker in self._workers:
            await self._until_kept_up(worker)
        self._before = await self._count()
        return self._workers[0]

    async def _until_ready(self, worker: WorkerProcess, partitions: int) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                assert worker.exit_code is None, worker.log_tail(40)
                status, text = await worker.page("/ready")
                if status == 200 and json.loads(text)["why"].startswith(f"{partitions} partitions"):
                    return
                await asyncio.sleep(0.05)

    async def _until_kept_up(self, worker: WorkerProcess) -> None:
        """Waits until its standbys have what the changelogs of the other one have."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                samples = await worker.samples()
                lags = [v for (name, _), v in samples.items() if name == "standby_lag_records"]
                if lags == [0.0] * (PARTITIONS // 2):
                    return
                await asyncio.sleep(0.1)

    async def stop(self) -> list[int]:
        return [await each.stop() for each in self._workers]

    async def end(self) -> None:
        for each in self._workers:
            await each.kill()
