"""Values with their lines -> policy. Collects every mistake instead of stopping at the first.

Each reading method returns what it read, or something harmless of the same type after it has noted
a mistake; what was built is thrown away in the end when there was one.
"""

from __future__ import annotations

import re
from typing import Final

from clickpath.eligibility import ActionBands, Band, Rules
from clickpath.placed import Mistake, Placed, PlacedReader, ReadNumber, hint, said
from clickpath.policy import KINDS, Cap, Kind, Offer, Policy, Scalar
from clickpath.vocabulary import ACTION_ID, ACTIONS

_POLICY_KEYS: Final = (
    "version",
    "name",
    "holdout_pct",
    "holdout_salt",
    "explore_pct",
    "caps",
    "cool_down",
    "kinds",
)
_KIND_KEYS: Final = (
    "priority",
    "when",
    "scores",
    "without_scores",
    "offers",
    "offer_choice",
    "caps",
    "cool_down",
    "expires_after",
    "attach",
)
_COUNTS: Final = ("session_events", "session_number", "lifetime_events", "cart_pieces")
_TIMES: Final = ("session_age", "absence")
_WHEN_KEYS: Final = (
    "after",
    *_COUNTS,
    *_TIMES,
    "revenue_cents",
    "cart_value_cents",
    "session",
    "lifetime",
    "since",
)
_SCORES: Final = ("purchase", *(f"next.{action}" for action in ACTIONS))

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ID_SHAPE: Final = "up to 64 small letters, digits, - and _"
_MAX_COUNT: Final = 10**9
_MAX_CENTS: Final = 10**12


class PolicyReader:
    """Reads one policy; `mistakes` grows while it does."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        self._read = PlacedReader(mistakes)

    def policy(self, root: Placed) -> Policy:
        """The policy of a whole file."""
        fields = self._read.fields(root, "", _POLICY_KEYS, required=("version", "name", "kinds"))
        if "version" in fields:
            self._read.integer(fields["version"], "version", 1, 1)
        kinds = self._kinds(fields["kinds"]) if "kinds" in fields else ()
        name = self._read.text(fields, "name", "")
        salt = self._read.text(fields, "holdout_salt", "")
        holdout_pct, explore_pct = (
            self._read.number(fields[key], key, 0.0, 100.0) if key in fields else 0.0
            for key in ("holdout_pct", "explore_pct")
        )
        caps, cool_down_ms = self._limits(fields, "")
        if self.mistakes:
            return Policy(name="", kinds=())
        return Policy(
            name=name,
            kinds=kinds,
            holdout_pct=holdout_pct,
            holdout_salt=salt,
            explore_pct=explore_pct,
            caps=caps,
            cool_down_ms=cool_down_ms,
        )

    # -- kinds

    def _kinds(self, placed: Placed) -> tuple[Kind, ...]:
        kinds: list[Kind] = []
        by_priority: dict[int, str] = {}
        for name, inner in self._read.fields(placed, "kinds", KINDS).items():
            kind = self._kind(name, inner)
            if kind is None:
                continue
            other = by_priority.setdefault(kind.priority, name)
            if other != name:
                self._read.note(inner, f"kinds.{name}", f"has the priority of kinds.{other}")
            kinds.append(kind)
        return tuple(kinds)

    def _kind(self, name: str, placed: Placed) -> Kind | None:
        place, before = f"kinds.{name}", len(self.mistakes)
        required = ("priority", "when", "offers", "expires_after")
        fields = self._read.fields(placed, place, _KIND_KEYS, required)
        choices = {
            key: self._read.one_of(fields, key, place, options)
            for key, options in (
                ("without_scores", ("skip", "send")),
                ("offer_choice", ("first", "uniform")),
                ("attach", ("nothing", "cart")),
            )
        }
        scores = self._scores(fields.get("scores"), f"{place}.scores")
        caps, cool_down_ms = self._limits(fields, f"{place}.")
        when = self._rules(fields["when"], f"{place}.when") if "when" in fields else None
        offers = self._offers(fields["offers"], f"{place}.offers") if "offers" in fields else ()
        priority, expires_ms = 0, 1
        if "priority" in fields:
            priority = self._read.integer(fields["priority"], f"{place}.priority", 0, _MAX_COUNT)
        if "expires_after" in fields:
            expires_ms = self._read.duration(fields["expires_after"], f"{place}.expires_after", 1)
        if when is None or len(self.mistakes) > before:
            return None
        return Kind(
            name=name,
            priority=priority,
            rules=when,
            offers=offers,
            expires_after_ms=expires_ms,
            scores=scores,
            without_scores=choices["without_scores"] == "send",
            draw_offer=choices["offer_choice"] == "uniform",
            caps=caps,
            cool_down_ms=cool_down_ms,
            attach_cart=choices["attach"] == "cart",
        )

    def _limits(self, fields: dict[str, Placed], prefix: str) -> tuple[tuple[Cap, ...], int]:
        cool_down_ms = 0
        if "cool_down" in fields:
            cool_down_ms = self._read.duration(fields["cool_down"], f"{prefix}cool_down", 0)
        caps = []
        for place, item in self._read.items(fields.get("caps"), f"{prefix}caps"):
            inner = self._read.fields(item, place, ("most", "per"), required=("most", "per"))
            if len(inner) == 2:
                most = self._read.integer(inner["most"], f"{place}.most", 1, 10_000)
                caps.append(Cap(most, self._read.duration(inner["per"], f"{place}.per", 1)))
        return tuple(sorted(caps, key=lambda cap: (cap.per_ms, cap.most))), cool_down_ms

    def _offers(self, placed: Placed, place: str) -> tuple[Offer, ...]:
        offers: dict[str, Offer] = {}
        for inner, item in self._read.items(placed, place):
            fields = self._read.fields(item, inner, ("id", "payload"), required=("id",))
            if "id" not in fields:
                continue
            offer_id = self._read.text(fields, "id", f"{inner}.")
            if not _ID.fullmatch(offer_id):
                self._read.note(item, f"{inner}.id", f"is {offer_id!r}, must be {_ID_SHAPE}")
            if offer_id in offers:
                self._read.note(item, f"{inner}.id", f"is {offer_id!r}, the id of another offer")
            payload = self._payload(fields.get("payload"), f"{inner}.payload")
            offers[offer_id] = Offer(offer_id=offer_id, payload=payload)
        if not offers:
            self._read.note(placed, place, "needs at least one offer")
        return tuple(offers.values())

    def _payload(self, placed: Placed | None, place: str) -> tuple[tuple[str, Scalar], ...]:
        payload: list[tuple[str, Scalar]] = []
        for key, item in self._read.mapping(placed, place).items():
            inner = f"{place}.{key}"
            if isinstance(item.value, tuple | dict) or item.value is None:
                self._read.note(item, inner, f"is {said(item)}, must be one scalar")
            elif key.endswith("_pct"):
                share = self._read.number(item, inner, 0.0, 100.0)
                payload.append((key, int(share) if share.is_integer() else share))
            elif key.endswith("_cents"):
                payload.append((key, self._read.integer(item, inner, 0, _MAX_CENTS)))
            else:
                payload.append((key, item.value))
        return tuple(sorted(payload))

    # -- rules and thresholds

    def _rules(self, placed: Placed, place: str) -> Rules | None:
        fields = self._read.fields(placed, place, _WHEN_KEYS, required=("after",))
        after: list[str] = []
        for inner, item in self._read.items(fields.get("after"), f"{place}.after"):
            if not isinstance(item.value, str) or item.value not in ACTION_ID:
                self._read.note(
                    item, inner, f"is {said(item)}, no action{hint(item.value, ACTIONS)}"
                )
            elif item.value in after:
                self._read.note(item, inner, f"is {item.value!r} again")
            else:
                after.append(item.value)
        bands: dict[str, Band] = {}
        for key in (*_COUNTS, "revenue_cents", "cart_value_cents"):
            if key in fields:
                read = self._whole(-_MAX_CENTS if key == "revenue_cents" else 0)
                bands[key] = self._read.band(fields[key], f"{place}.{key}", read)
        for key in _TIMES:
            if key in fields:
                band = self._read.band(fields[key], f"{place}.{key}", self._read.duration)
                bands[f"{key}_ms"] = band
        by_action = {
            key: self._action_bands(fields.get(key), f"{place}.{key}", read)
            for key, read in (
                ("session", self._whole(0)),
                ("lifetime", self._whole(0)),
                ("since", self._read.duration),
            )
        }
        if not after:
            if "after" in fields and fields["after"].value == ():
                self._read.note(fields["after"], f"{place}.after", "needs at least one action")
            return None
        return Rules(
            after=tuple(sorted(after, key=ACTION_ID.__getitem__)),
            session_counts=by_action["session"],
            lifetime_counts=by_action["lifetime"],
            since_ms=by_action["since"],
            **bands,
        )

    def _scores(self, placed: Placed | None, place: str) -> tuple[tuple[str, Band], ...]:
        fields = self._read.fields(placed, place, _SCORES) if placed else {}
        return tuple(
            (name, self._read.band(item, f"{place}.{name}", self._probability))
            for name, item in sorted(fields.items())
        )

    def _action_bands(self, placed: Placed | None, place: str, read: ReadNumber) -> ActionBands:
        fields = self._read.fields(placed, place, ACTIONS) if placed else {}
        return tuple(
            (action, self._read.band(fields[action], f"{place}.{action}", read))
            for action in ACTIONS
            if action in fields
        )

    def _whole(self, least: int) -> ReadNumber:
        return lambda placed, place: self._read.integer(placed, place, least, _MAX_CENTS)

    def _probability(self, placed: Placed, place: str) -> float:
        return self._read.number(placed, place, 0.0, 1.0)
