"""What a model is taught: the heads, and the labels of a user's steps.

Rules

1.  The labels of a step follow from the user's later steps before a moment, `until_ms`, at which
    everything is taken as known. Whatever is not older than that moment is not looked at, so that
    labels of an earlier part of a corpus cannot hold anything of a later one.
2.  The next action, category and item are known as soon as they come.
3.  A yes or no is known only when its whole horizon lies before the moment. Were a yes known at
    once and a no only after the silence that proves it, all newest labels would say yes.

    head             kind    label of a step                                                unknown
    next_action      action  id of the user's next action                                   0
    next_category    token   category hash of the next step that has one, in any session    0
    next_item        token   item hash of the next step that has one, in any session        0
    purchase         binary  a purchase follows in the rest of the session                  -1
    leave            binary  no step follows within the session gap: the session ends here  -1
    return_7d        binary  a new session begins within 7 days of the end of this one      -1
    repeat_purchase  binary  on purchases only: another one follows within 30 days          -1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from clickpath.steps import Step
from clickpath.vocabulary import ACTION_ID

Kind = Literal["action", "token", "binary"]

#: The label of a yes or no that is not known.
UNKNOWN: Final = -1

DAY_MS: Final = 24 * 3_600_000
RETURN_MS: Final = 7 * DAY_MS
REPEAT_MS: Final = 30 * DAY_MS

_PURCHASE: Final = ACTION_ID["purchase"]


@dataclass(frozen=True, slots=True)
class Head:
    """One thing that a model says after each step.

    Attributes:
        name: Its name, in files and figures.
        kind: "action" for an action id, "token" for a hash of 63 bits, "binary" for yes or no.
    """

    name: str
    kind: Kind

    @property
    def unknown(self) -> int:
        """The label of a step whose future is not known; also that of padding."""
        return UNKNOWN if self.kind == "binary" else 0


HEADS: Final = (
    Head("next_action", "action"),
    Head("next_category", "token"),
    Head("next_item", "token"),
    Head("purchase", "binary"),
    Head("leave", "binary"),
    Head("return_7d", "binary"),
    Head("repeat_purchase", "binary"),
)
HEAD: Final = {head.name: head for head in HEADS}

#: The labels of one step, in the order of `HEADS`.
Labels = tuple[int, int, int, int, int, int, int]

#: What is known of a step whose labels nobody asked for.
NO_LABELS: Final[Labels] = (0, 0, 0, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)


def labels_of(steps: Sequence[Step], until_ms: int, session_gap_ms: int) -> list[Labels]:
    """The labels of all steps of one user.

    Args:
        steps: All of them that are older than `until_ms`, in order of time.
        until_ms: The moment (exclusive) up to which everything is known.
        session_gap_ms: The silence that ends a session.
    """
    labels: list[Labels] = []
    next_ms = until_ms  # time of the step after, and behind the last one the end of what is known
    next_action = next_category = next_item = 0
    purchase = returns = UNKNOWN
    next_purchase_ms: int | None = None
    for step in reversed(steps):
        silent_ms = next_ms - step.ts_ms
        if not labels:
            leave = 1 if silent_ms >= session_gap_ms else UNKNOWN
            purchase = 0 if leave == 1 else UNKNOWN
            returns = 0 if silent_ms > RETURN_MS else UNKNOWN
        elif silent_ms >= session_gap_ms:
            leave, purchase = 1, 0
            seen = step.ts_ms + RETURN_MS < until_ms
            returns = int(silent_ms <= RETURN_MS) if seen else UNKNOWN
        else:
            leave = 0 if step.ts_ms + session_gap_ms <= until_ms else UNKNOWN
            if next_action == _PURCHASE and purchase != UNKNOWN:
                purchase = 1
        repeat = UNKNOWN
        if step.action == _PURCHASE:
            last_ms = step.ts_ms + REPEAT_MS
            if last_ms < until_ms:
                repeat = int(next_purchase_ms is not None and next_purchase_ms <= last_ms)
            next_purchase_ms = step.ts_ms
        labels.append((next_action, next_category, next_item, purchase, leave, returns, repeat))
        next_ms, next_action = step.ts_ms, step.action
        next_category = step.category or next_category
        next_item = step.item or next_item
    labels.reverse()
    return labels
