"""What is minimised: one loss a head, over the steps whose label is known, weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.form import KIND
from training.labels import UNKNOWN
from training.model import PathModel, States, TokenHead

#: gBCE's t: from 0, plain cross entropy, to 1, calibrated scores; its authors' choice.
_CALIBRATION: Final = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much the loss of each head counts.

    Attributes:
        next_action: The measure for the others: every step has this label.
        next_category: Its loss is of the same size, but it has to leave the trunk to the heads
            that policies ask.
        next_item: Its loss is several times the others' (thousands of tokens), and most of that
            is luck that no trunk can learn.
        purchase: Its loss is about a third of the next action's, and most rules ask this head.
        leave: As sure a label as the next action's, of half its size.
        return_7d: Few paths have it, and all steps of a session share one label: more weight would
            let the trunk learn users by heart.
        repeat_purchase: On purchases only, so that its few labels must not shout.
    """

    next_action: float = 1.0
    next_category: float = 0.2
    next_item: float = 0.05
    purchase: float = 3.0
    leave: float = 0.5
    return_7d: float = 0.3
    repeat_purchase: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """How the losses are made.

    Attributes:
        weights: By head.
        full_softmax: Up to so many tokens all of them are compared with the right one.
        negatives: Beyond, so many drawn ones are, the same for a whole batch.
        teaching: Share of what a teacher says in the loss of a student, where there is one.
    """

    weights: Weights = Weights()
    full_softmax: int = 20_000
    negatives: int = 512
    teaching: float = 0.5


class Objective(nn.Module):
    """The model with its losses: what is trained.

    Args:
        model: It.
        config: How its losses are made.
        teacher: A larger model of the same heads and vocabulary whose answers it learns as well
            (distillation: Hinton et al., 2015); none for plain training.
    """

    def __init__(
        self, model: PathModel, config: ObjectiveConfig, teacher: PathModel | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.weights: Mapping[str, float] = asdict(config.weights)
        # In a list, so that it is no part of what is trained and saved.
        self._teachers = [] if teacher is None else [teacher.eval()]

    def forward(self, paths: Tensor, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses in nats by head, each as (sum, number of known labels), shape (2,).

        Args:
            paths: Shape (B, 6, T).
            labels: By head, shape (B, T).
        """
        states = self.model.states(paths)
        learned: States | None = None
        if self.training and self._teachers:
            with torch.no_grad():
                learned = self._teachers[0].states(paths)
        losses = {}
        for name in self.model.config.heads:
            target, known = self._target(name, labels[name])
            total = self._loss(name, states.at(known), target[known])
            if learned is not None:
                share = self.config.teaching
                taught = self._taught(name, states.at(known), learned.at(known))
                total = share * taught + (1 - share) * total
            losses[name] = torch.stack([total, known.sum().to(total.dtype)])
        return losses

    def total(self, losses: Mapping[str, Tensor], paths: int) -> Tensor:
        """The weighted sum of the heads' mean losses.

        Args:
            losses: As `forward` gives them.
            paths: How many there are: a head with fewer labels than that counts by their number,
                or its one label in a batch would weigh as much as a thousand of another head.
        """
        means = [self.weights[name] * of[0] / of[1].clamp(min=paths) for name, of in losses.items()]
        return torch.stack(means).sum()

    def _target(self, name: str, label: Tensor) -> tuple[Tensor, Tensor]:
        """Labels as the loss takes them, and which of them are known."""
        if KIND[name] == "binary":
            return label.float(), label != UNKNOWN
        if KIND[name] == "action":
            return label.long(), label != 0
        tokens = self.model.tokens(name)
        row = tokens(label.long())
        return row, (row > 0) & (row <= tokens.known)

    def _loss(self, name: str, states: States, target: Tensor) -> Tensor:
        """Sum over N steps of the loss of one head."""
        if KIND[name] == "binary":
            logits = self.model.say(name, states)
            return functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        if KIND[name] == "token" and self.model.tokens(name).known > self.config.full_softmax:
            return self._sampled(name, states, target)
        logits = self.model.say(name, states)
        return functional.cross_entropy(logits, target, reduction="sum")

    def _taught(self, name: str, states: States, learned: States) -> Tensor:
        """Sum over N steps of the cross entropy with what the teacher says."""
        said = self.model.say(name, states)
        with torch.no_grad():
            told = self._teachers[0].say(name, learned)
        if KIND[name] == "binary":
            return functional.binary_cross_entropy_with_logits(
                said, told.sigmoid(), reduction="sum"
            )
        return functional.cross_entropy(said, told.softmax(-1), reduction="sum")

    def _sampled(self, name: str, states: States, target: Tensor) -> Tensor:
        """gBCE: Petrov and Macdonald, "gSASRec", RecSys 2023, equations 10 and 11."""
        head = self.model.heads[name]
        assert isinstance(head, TokenHead)
        table, recent = self.model.token_table(name), self.model.recent(name, states)
        known = len(table) - 1
        drawn = torch.randint(1, known + 1, (self.config.negatives,), device=target.device)
        right = head.some(states.x, table, recent, target[:, None])[:, 0]  # (N,)
        wrong = head.some(states.x, table, recent, drawn)  # (N, K)
        wrong = wrong.masked_fill(drawn == target[:, None], float("-inf"))
        rate = self.config.negatives / max(known - 1, 1)
        beta = rate * (_CALIBRATION * (1 - 1 / rate) + 1 / rate)
        loss = beta * functional.softplus(-right) + functional.softplus(wrong).sum(-1)
        return loss.sum()
