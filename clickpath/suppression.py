"""Caps and cool-downs: what the ledger holds back, and what of it may be forgotten.

Windows roll and reach back from now: what was sent exactly `per_ms` ago no longer counts. More in
the ledger never holds back less.
"""

from __future__ import annotations

from typing import Final

from clickpath.ledger import Ledger
from clickpath.policy import Cap, Policy

#: Why an eligible kind is held back. They are part of the public contract: never rename one.
SUPPRESSIONS: Final = frozenset(
    {
        "global_cool_down",  # anything was sent too recently
        "global_cap",  # too much of anything was sent
        "cool_down",  # this kind was sent too recently
        "cap",  # too many of this kind were sent
        "needs_scores",  # the model gave no answer, and the kind may not be sent without
    }
)


def suppressed_kinds(
    kinds: tuple[str, ...], policy: Policy, ledger: Ledger, now_ms: int
) -> dict[str, str]:
    """The kinds among `kinds` that the ledger holds back, and by what (one of `SUPPRESSIONS`)."""
    if not ledger:
        return {}
    if policy.horizon_ms:
        why = _held_back([at_ms for _, at_ms in ledger], policy.cool_down_ms, policy.caps, now_ms)
        if why is not None:
            return dict.fromkeys(kinds, f"global_{why}")
    suppressed = {}
    for name in kinds:
        times_ms = [at_ms for sent, at_ms in ledger if sent == name]
        if times_ms:
            kind = policy.by_name[name]
            why = _held_back(times_ms, kind.cool_down_ms, kind.caps, now_ms)
            if why is not None:
                suppressed[name] = why
    return suppressed


def _held_back(
    times_ms: list[int], cool_down_ms: int, caps: tuple[Cap, ...], now_ms: int
) -> str | None:
    """Why something that was sent at these times, at least one, may not be sent now."""
    if cool_down_ms and max(times_ms) > now_ms - cool_down_ms:
        return "cool_down"
    for most, per_ms in caps:
        if len(times_ms) >= most:
            after_ms = now_ms - per_ms
            if sum([at_ms > after_ms for at_ms in times_ms]) >= most:
                return "cap"
    return None


def pruned(ledger: Ledger, policy: Policy, now_ms: int) -> Ledger:
    """The ledger without what no cap or cool-down of this policy can see any more.

    It stays bounded: of each kind there is no more within its longest window than the cap or the
    cool-down with that window lets pass.
    """
    for_all_ms = policy.horizon_ms
    kept = []
    for sent in ledger:
        kind = policy.by_name.get(sent.kind)
        horizon_ms = max(for_all_ms, kind.horizon_ms) if kind else for_all_ms
        if sent.at_ms > now_ms - horizon_ms:
            kept.append(sent)
    return tuple(kept)
