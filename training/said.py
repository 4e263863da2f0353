"""What a model or a baseline says about the last step of each path, and how it is measured.

It says it as `serving.outputs` names it: by head, probabilities of each action, of yes, or of the
likeliest tokens, whose hashes stand under `<head>_token`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clickpath.encoding import FEATURE_NAMES
from serving.graph import Graph
from serving.outputs import Outputs
from training.dataset import Ints, Part
from training.labels import HEAD
from training.metrics import Answers, Bools, of_classes, of_list, yes_or_no

Said = Outputs

_POSITION = FEATURE_NAMES.index("session_position")
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of the last step of each path of a part, in the stored order.

    Attributes:
        labels: By head, shape (n,).
        users: Shape (n,), hash of the user.
        clicks: Shape (n,), the step's place in its session, from 1.
    """

    labels: dict[str, Ints]
    users: Ints
    clicks: Ints

    @staticmethod
    def of(part: Part) -> Asked:
        """Reads a part once; only its last steps are kept."""
        users, clicks, labels = [], [], []
        for batch in part.batches(_BATCH):
            users.append(batch.users)
            clicks.append(batch.paths[np.arange(len(batch)), _POSITION, batch.lengths - 1])
            labels.append(batch.last_labels())
        joined = {name: np.concatenate([of[name] for of in labels]) for name in HEAD}
        return Asked(joined, np.concatenate(users), np.concatenate(clicks))

    def known(self, head: str) -> Bools:
        """For which rows the label of a head is known, shape (n,)."""
        known: Bools = self.labels[head] != HEAD[head].unknown
        return known


def served(graph: Graph, part: Part) -> Said:
    """What an exported model says, for all heads that its graph has."""
    return joined([graph.run(batch.paths) for batch in part.batches(_BATCH)])


def joined(pieces: Sequence[Said]) -> Said:
    """Several pieces, one behind the other."""
    return {name: np.concatenate([of[name] for of in pieces]) for name in pieces[0]}


def answers_of(head: str, asked: Asked, said: Said, rows: Bools) -> Answers:
    """What was said of some rows beside what came.

    Args:
        head: Its name.
        asked: The labels, n of them.
        said: By head, n rows.
        rows: Shape (n,), those whose label is known, or some of them.
    """
    label, probability = asked.labels[head][rows], said[head][rows].astype(np.float64)
    kind = HEAD[head].kind
    if kind == "binary":
        return yes_or_no(label == 1, probability)
    if kind == "action":
        return of_classes(label, probability)
    return of_list(label, said[f"{head}_token"][rows].astype(np.int64), probability)
