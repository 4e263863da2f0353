"""A model is brought up to recent days, by little matrices beside its own (LoRA).

LoRA: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, in the implementation
of `peft`. The weights stay, and what is learned beside them has so few parameters that a few
passes over recent days do not undo what was learned before. Half of what it sees is old, for the
same reason. At the end both are added up, so that the model has the form that it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Final

from peft import LoraConfig
from peft.tuners.lora import LoraLayer, LoraModel
from torch import nn

from clickpath.errors import UsageError
from training.dataset import Batch, Part
from training.model import PathModel
from training.train import Progress, TrainConfig, train

#: The largest share of the steps of the full training: with validation a tenth of its time.
MOST_WORK: Final = 0.07

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class OldAndNew:
    """Examples of recent days with as many old ones between them, in turns of a batch.

    Attributes:
        new: Of recent days; all of them once.
        old: Of the days before; as many as there are new ones, others in each epoch.
        most: Most examples in all.
    """

    new: Part
    old: Part
    most: int

    def __len__(self) -> int:
        each = min(len(self.new), self.most // 2)
        return each + min(len(self.old), each)

    def batches(self, size: int, seed: int | Sequence[int] | None = None) -> Iterator[Batch]:
        """See `Part.batches`."""
        each = -(-len(self) // size // 2)
        parts = (islice(part.batches(size, seed), each) for part in (self.new, self.old))
        for pair in zip_longest(*parts):
            yield from (batch for batch in pair if batch is not None)


def refreshed(
    model: PathModel,
    new: tuple[Part, Part],
    old: Part,
    steps: int,
    config: TrainConfig,
    progress: Progress = lambda _: None,
) -> PathModel:
    """The model, brought up to recent days.

    Args:
        model: Trained; it is changed.
        new: Training and validation part of recent days.
        old: Training part of the days before.
        steps: That the full training took; at most `MOST_WORK` of them are spent.
        config: How; its epochs are cut to what may be spent.
        progress: See `train`.

    Raises:
        UsageError: The full training was so short that its share of steps is none.
    """
    budget = int(MOST_WORK * steps) * config.batch
    if not budget:
        raise UsageError(
            f"the first training took {steps} steps, too few for a refresh of at most "
            f"{MOST_WORK:.0%} of them: --method full trains from nothing"
        )
    examples = OldAndNew(new[0], old, budget)
    epochs = max(1, min(config.epochs, budget // max(len(examples), 1)))
    adapted = LoraModel(model, {"default": _lora(model)}, "default")
    train(model, examples, new[1], replace(config, epochs=epochs), progress)
    adapted.merge_and_unload()  # puts the model's own modules back, with what was learned in them
    for weight in model.parameters():
        weight.requires_grad_(True)
    return model.eval()


def _lora(model: PathModel) -> LoraConfig:
    """Beside every matrix of the layers and the heads; the tables of tokens stay as they are."""
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(module, LoraLayer)
    ]
    return LoraConfig(r=8, lora_alpha=16, target_modules=names)
