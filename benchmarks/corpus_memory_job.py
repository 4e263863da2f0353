"""The process that `benchmarks.corpus_memory` measures."""

from __future__ import annotations

import sys
from pathlib import Path

from training.build import Recipe, build
from training.corpus import corpus_at


def main() -> None:
    """Makes a data set and reads it once; without arguments does nothing."""
    if len(sys.argv) < 3:
        return
    log, folder = sys.argv[1:]
    dataset = build(corpus_at(log, "clickpath"), Path(folder), Recipe(), lambda _: None)
    examples = sum(len(batch) for batch in dataset.part("train").batches(64, seed=1))
    print(dataset.manifest.clicks.read, examples)


if __name__ == "__main__":
    main()
