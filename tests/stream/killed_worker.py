"""A worker process of the counting job, to be killed.

    SERVERS NAME COMMIT_INTERVAL DELIVERY [FOLDER]

Writes one line for each chunk, so that whoever kills it knows that it is at work.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stream.batch.disk import DiskStore
from stream.batch.records import Chunk
from stream.batch.worker import run, run_app
from tests.stream.counting import Job, counting_app


async def _tell(chunk: Chunk) -> None:
    print(len(chunk.records), flush=True)


async def _tell_slowly(chunk: Chunk) -> None:
    print(len(chunk.records), flush=True)
    # So that a few transactions end before it is killed.
    await asyncio.sleep(0.01)


async def main(
    servers: str, name: str, commit_interval_s: float, delivery: str, folder: str = ""
) -> int:
    worker = counting_app(
        Job(servers, name),
        # Transactions need no help against records that come again: none does.
        stamped=delivery != "transactional",
        transactional=delivery == "transactional",
        around=_tell_slowly if delivery == "transactional" else _tell,
        outputs=True,
        commit_interval_s=commit_interval_s,
        # The same disk for each start after a death.
        store=DiskStore(Path(folder)) if folder else None,
    )
    return await run_app(worker.app)


if __name__ == "__main__":
    sys.exit(run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), *sys.argv[4:])))
