"""The record of a comparison: whether a candidate is good enough to take a champion's place.

It lies beside the candidate as `promotion.json`, whatever the verdict.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from clickpath.errors import ModelMismatch

PROMOTION_FILE: Final = "promotion.json"


class Gain(BaseModel):
    """By how much a candidate is better in one figure, in the figure's own unit.

    Attributes:
        metric: Which, as head.figure.
        by: On the hold-out as it is; below 0 it is worse; None where the labels do not allow it.
        bounds: Between which it lies; None where there are too few users to tell.
        confidence: Share of the draws of users within the bounds.
        users: Of the hold-out, those with a label.
        rows: Their paths with one.
        draws: How often users were drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    by: float | None
    bounds: tuple[float, float] | None
    confidence: float
    users: int
    rows: int
    draws: int


class Promotion(BaseModel):
    """What stands in `promotion.json`.

    Attributes:
        v: Version of this record.
        candidate: Digest of the new model.
        champion: Digest of the model that it was compared with.
        verdict: What the gate says.
        forced: Whether the candidate was put into the repository against the verdict.
        reasons: One sentence for each thing that speaks against it; none where nothing does.
        method: How it was trained.
        thresholds: What the gate was set to, by name.
        held_out: What both were measured on: where it begins and ends, and how many paths.
        figures: By model - `candidate`, `champion` - and head, on the hold-out.
        gain: In the figure in which the candidate has to be better; None where one of both has no
            such figure, and in records from before it was kept.
        latency_ms: By model, of a batch on one thread.
        created_ms: When.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    candidate: str
    champion: str
    verdict: Literal["promote", "refuse"]
    forced: bool = False
    reasons: tuple[str, ...] = ()
    method: str
    thresholds: dict[str, float | str]
    held_out: dict[str, JsonValue]
    figures: dict[str, dict[str, dict[str, float | None]]]
    gain: Gain | None = None
    latency_ms: dict[str, float]
    created_ms: int


def read_promotion(directory: Path) -> Promotion | None:
    """The record beside a model; None where there is none.

    Raises:
        ModelMismatch: It cannot be read.
    """
    path = directory / PROMOTION_FILE
    try:
        return Promotion.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ModelMismatch(f"{path} is no record of a comparison: {error}") from error


def write_promotion(promotion: Promotion, directory: Path) -> None:
    """Writes the record beside a model."""
    text = promotion.model_dump_json(indent=2)
    (directory / PROMOTION_FILE).write_text(text + "\n", encoding="utf-8")
