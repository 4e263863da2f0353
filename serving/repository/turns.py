"""Writers of a model repository take turns.

The configuration names every version, and is made of what lies there. Of two who write it at the
same time the second one would leave out what the first one added in between.

The turn is a lock on a file that stays; the system gives it up when its process ends, however that
is. It holds between processes on one machine, and on a shared file system as far as that knows
locks. Readers, Triton among them, need no turn: what they see is replaced as a whole.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clickpath.errors import UsageError

#: In the repository; no directory, so that Triton takes it for no model.
LOCK_FILE: Final = ".lock"

#: A turn takes the time to copy a model.
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.05


@contextmanager
def turn(repository: Path, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Waits until nobody else writes to a repository, and keeps others waiting in the block.

    Args:
        repository: Its directory.
        patience_s: How long to wait.

    Raises:
        UsageError: Somebody else has written for longer.
        OSError: The repository cannot be written to, or knows no locks.
    """
    path = repository / LOCK_FILE
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline_s = time.monotonic() + patience_s
        while not _locked(held):
            if time.monotonic() > deadline_s:
                raise UsageError(
                    f"another program writes to {repository} and has not finished within "
                    f"{patience_s:g} s; it holds {path}"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(held)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
