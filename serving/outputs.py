"""The outputs of a model's graph, and the scores that they become.

    head                                            output            shape
    next_action                                     next_action       (batch, ACTION_COUNT)
    purchase, leave, return_7d, repeat_purchase     the head's name   (batch,)
    next_category, next_item                        the head's name   (batch, k), falling
                                                    <name>_token      (batch, k), int64 hashes

All but the hashes are probabilities, float32; k is `CANDIDATES`, or less where there are fewer
tokens. Probabilities are rounded to `DECIMALS`, which keeps records short and hides the last bits
in which two machines may differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from clickpath.errors import PredictorUnavailable
from clickpath.scores import Candidate, OtherScores, Scores
from clickpath.vocabulary import ACTION_COUNT

#: The heads that a worker cannot do without.
REQUIRED_HEADS: Final = ("next_action", "purchase")

OTHER_BINARY_HEADS: Final = ("leave", "return_7d", "repeat_purchase")
TOKEN_HEADS: Final = ("next_category", "next_item")
KNOWN_HEADS: Final = (*REQUIRED_HEADS, *OTHER_BINARY_HEADS, *TOKEN_HEADS)

#: How many of the likeliest tokens a token head names.
CANDIDATES: Final = 20

DECIMALS: Final = 6

#: What a graph gives, by the name of the output.
Outputs = Mapping[str, npt.NDArray[Any]]


def output_names(heads: Iterable[str]) -> tuple[str, ...]:
    """The outputs of some heads, in their order."""
    names: list[str] = []
    for head in heads:
        names.append(head)
        if head in TOKEN_HEADS:
            names.append(f"{head}_token")
    return tuple(names)


def wrong_shape(outputs: Outputs, rows: int) -> str | None:
    """What is wrong with the shapes of the outputs for so many paths, if anything is."""
    for name, of in outputs.items():
        if name == "next_action":
            right = of.shape == (rows, ACTION_COUNT)
            expected = f"({rows}, {ACTION_COUNT})"
        elif name.removesuffix("_token") in TOKEN_HEADS:
            right = of.ndim == 2 and len(of) == rows and 1 <= of.shape[1] <= CANDIDATES
            expected = f"({rows}, 1 to {CANDIDATES})"
        else:
            right, expected = of.shape == (rows,), f"({rows},)"
        if not right:
            return f"gives {name} of shape {of.shape} for {rows} paths, expected {expected}"
    return None


def scores_of(outputs: Outputs) -> list[Scores]:
    """Scores from a model's outputs.

    Raises:
        PredictorUnavailable: A value is not a probability.
    """
    binary = [name for name in OTHER_BINARY_HEADS if name in outputs]
    columns = [outputs[name][:, None] for name in ("purchase", *binary)]
    dense = _rounded(np.concatenate([outputs["next_action"], *columns], axis=1))
    next_action = map(tuple, dense[:, :ACTION_COUNT].tolist())
    purchase, *said = dense[:, ACTION_COUNT:].T.tolist()
    others: dict[str, Iterable[Any]] = dict(zip(binary, said, strict=True))
    for name in TOKEN_HEADS:
        if name in outputs:
            others[name] = _candidates(outputs[name], outputs[f"{name}_token"])
    if not others:
        return list(map(Scores, next_action, purchase))
    defaults = OtherScores()._asdict().items()
    fields = (others.get(name, repeat(default)) for name, default in defaults)
    # As `OtherScores(*of_path)`, without a call of Python's for each path.
    said_of_paths = map(tuple.__new__, repeat(OtherScores), zip(*fields, strict=False))
    return list(map(Scores, next_action, purchase, said_of_paths))


def _candidates(
    probability: npt.NDArray[Any], token: npt.NDArray[Any]
) -> list[tuple[Candidate, ...]]:
    pairs = zip(token.tolist(), _rounded(probability).tolist(), strict=True)
    return [tuple(map(Candidate, *of_row)) for of_row in pairs]


def _rounded(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    exact = values.astype(np.float64)
    # Written so that NaN fails it too.
    if not bool(np.all((exact >= 0.0) & (exact <= 1.0 + 1e-6))):
        raise PredictorUnavailable("the model gave a value that is no probability")
    return np.minimum(np.round(exact, DECIMALS), 1.0)
