"""Writes the files that come from the code: `python -m stream.reference [REPOSITORY]`."""

from __future__ import annotations

import sys
from pathlib import Path

from stream.reference.pages import write

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name in write(folder):
        print(f"wrote {folder / name}")
