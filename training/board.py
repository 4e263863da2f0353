"""The course of a training loop, for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch.utils.tensorboard import SummaryWriter

from training.standing import Epoch
from training.train import Tick

#: A point for so many steps keeps the files small.
_EVERY_STEPS: Final = 20


class Board:
    """Writes losses and the learning rate into a folder that `tensorboard --logdir` shows.

    Args:
        folder: Where.
        active: False to write nothing, in all processes but the first.
    """

    def __init__(self, folder: Path, active: bool = True) -> None:
        self._writer = SummaryWriter(str(folder)) if active else None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, of: Tick | Epoch) -> None:
        """Writes a step or an epoch."""
        writer = self._writer
        if writer is None:
            return
        if isinstance(of, Epoch):
            writer.add_scalar("loss/training", of.train_loss, of.number)
            writer.add_scalar("loss/validation", of.valid_loss, of.number)
            for name, loss in of.heads.items():
                writer.add_scalar(f"validation/{name}", loss, of.number)
        elif of.step % _EVERY_STEPS == 0:
            writer.add_scalar("step/loss", of.loss, of.step)
            writer.add_scalar("step/rate", of.rate, of.step)
