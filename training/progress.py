"""The course of a training loop, for a person."""

from __future__ import annotations

import sys
from time import monotonic

from tqdm import tqdm

from training.standing import Epoch
from training.train import Tick


class Shown:
    """What a person sees meanwhile, on stderr."""

    def __enter__(self) -> Shown:
        self._bar = tqdm(unit="batch", file=sys.stderr, leave=False, disable=None, delay=1.0)
        self._events = 0
        self._began_s = monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.write(line, file=sys.stderr)

    def show(self, of: Tick | Epoch) -> None:
        """A step moves the bar; an epoch is a line."""
        if not isinstance(of, Tick):
            self.say(
                f"epoch {of.number}: training loss {of.train_loss:.4f}, "
                f"validation loss {of.valid_loss:.4f}, {of.seconds:.0f} s"
            )
            return
        self._events += of.events
        per_s = self._events / max(monotonic() - self._began_s, 1e-9)
        self._bar.total = of.steps
        self._bar.set_postfix_str(f"loss {of.loss:.3f}, {per_s:,.0f} events/s", refresh=False)
        self._bar.update(of.step - self._bar.n)
