"""The tabular baseline's trees on a published set of session aggregates: a sanity check."""

import csv

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from training.baselines.boosting import PARAMETERS
from training.benchmark import real_data
from training.metrics import auc

LOG = real_data() / "uci_online_shoppers" / "feb_to_oct.csv"
ROUNDS = 60


def columns(without: str = "") -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers as they are, words as the place of each in the alphabet."""
    with LOG.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("Revenue", without)]
    table = []
    for name in names:
        values = [row[name] for row in rows]
        try:
            table.append([float(value) for value in values])
        except ValueError:
            words = sorted({*values})
            table.append([float(words.index(value)) for value in values])
    bought = np.array([row["Revenue"].upper() == "TRUE" for row in rows])
    return np.array(table).T, bought


def cross_validated(x: NDArray[np.float64], bought: NDArray[np.bool_]) -> float:
    said = np.zeros(len(bought))
    for train, test in StratifiedKFold(10, shuffle=True, random_state=0).split(x, bought):
        data = lightgbm.Dataset(x[train], bought[train])
        trees = lightgbm.train({**PARAMETERS, "objective": "binary", "seed": 0}, data, ROUNDS)
        said[test] = trees.predict(x[test])
    return auc(bought, said)


@pytest.mark.data
@pytest.mark.skipif(not LOG.exists(), reason=f"there is no {LOG}")
def test_the_trees_reach_what_is_published_and_what_leaks_is_seen() -> None:
    leaking, honest = cross_validated(*columns()), cross_validated(*columns("PageValues"))
    print(f"AUC {leaking:.4f} with PageValues, {honest:.4f} without")
    assert leaking > 0.91
    assert 0.72 < honest < leaking - 0.08
