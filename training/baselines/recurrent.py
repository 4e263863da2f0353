"""A GRU on the very input of the Transformer, with its heads and its training loop.

Only the trunk is another: what is between the embedding of the steps and the heads (Hidasi et al.,
"Session-based recommendations with recurrent neural networks", 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from training.dataset import Part
from training.form import ModelConfig
from training.heads import teachable, vocabulary_of
from training.lookup import Vocabulary
from training.model import PathModel, States, before, repeats
from training.predict import predict
from training.said import Said
from training.train import TrainConfig, train

_EPOCHS: Final = 6
_BATCH: Final = 32
_RATE: Final = 3e-3


class Recurrent(PathModel):
    """The path model with a GRU in place of the decoder's layers."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        del self.trunk
        self.gru = nn.GRU(config.width, config.width, batch_first=True)

    def states(self, paths: Tensor) -> States:
        """What the GRU makes of each step; see `PathModel.states`."""
        step = self.embed.read(paths)
        x = self.dropout(self.embed(step, repeats(before(step.item))))  # (B, T, D)
        if self.training:
            x = x * self._begun(x)
        x, _ = self.gru(x)
        return States(x, before(step.item_row), before(step.category_row))

    def _begun(self, x: Tensor) -> Tensor:
        """1 from a random step of the first half on, 0 before it: (B, T, 1).

        A net that can count would learn how far it is from the end of a training array, where
        sessions end more often than elsewhere.
        """
        begin = torch.rand(len(x), 1) * x.shape[1] / 2
        begun: Tensor = (torch.arange(x.shape[1]) >= begin).to(x.dtype)[:, :, None]
        return begun


@dataclass(frozen=True, slots=True)
class Net:
    """The trained net."""

    model: Recurrent

    def predict(self, part: Part) -> Said:
        """What it says after the last step of each path, by head."""
        return predict(self.model, part)


def recurrent(train_part: Part, valid_part: Part, seed: int) -> Net:
    """Trains it, for each head that has labels."""
    config = ModelConfig()
    config = ModelConfig(heads=teachable(train_part, config.heads))
    torch.manual_seed(seed)
    model = Recurrent(config, vocabulary_of(train_part, config))
    train(
        model,
        train_part,
        valid_part,
        TrainConfig(seed=seed, epochs=_EPOCHS, batch=_BATCH, rate=_RATE),
    )
    return Net(model)
