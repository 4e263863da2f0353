"""The gain of a candidate and its bounds, on planted models: equal, better and worse ones."""

import numpy as np
import pytest

from training.gate import Thresholds, reasons_against
from training.labels import HEAD
from training.metrics import Answers, yes_or_no
from training.paired import LEAST_USERS, gain, gain_between
from training.said import Asked

SEEDS = range(60)
USERS, ROWS = 300, 12
METRIC = "purchase.log_loss"


def shop(seed: int, users: int = USERS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Logits of the truth, what came of them, and whose rows they are; users differ a lot."""
    luck = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), ROWS)
    logit = luck.normal(0, 1.5, users)[user] + luck.normal(0, 0.5, users * ROWS)
    return logit, luck.random(users * ROWS) < 1 / (1 + np.exp(-logit)), user


def said(logit: np.ndarray, noise: float, luck: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """A model that knows the truth but for an error that is the same within a user."""
    error = luck.normal(0, 1, len(logit) // ROWS)[np.arange(len(logit)) // ROWS]
    return 1 / (1 + np.exp(-(logit + noise * error)))


def verdicts(champion: float, candidate: float, margin: float = 0.001) -> int:
    """In how many seeds a candidate with this error takes the place of such a champion."""
    passed = 0
    for seed in SEEDS:
        logit, came, user = shop(seed)
        luck = np.random.default_rng(1_000 + seed)
        both = tuple(yes_or_no(came, said(logit, noise, luck)) for noise in (champion, candidate))
        found = gain_between(METRIC, both, user, 0.95)
        figures = [{"purchase": of.figures()} for of in both]
        loose = Thresholds(metric=METRIC, margin=margin, head_pct=100, calibration=1)
        as_fast = {"champion": 1.0, "candidate": 1.0}
        passed += not reasons_against(loose, *figures, found, as_fast)
    return passed


def test_an_equally_good_model_is_not_promoted_whatever_its_luck() -> None:
    # By their point estimates nearly half of these would be.
    assert verdicts(0.6, 0.6) <= 4


def test_a_truly_better_model_is_promoted_in_nearly_every_seed() -> None:
    assert verdicts(1.2, 0.3) >= 57


def test_a_worse_model_is_never_promoted() -> None:
    assert verdicts(0.3, 0.9) == 0


def test_a_model_that_is_better_by_less_than_the_margin_is_refused() -> None:
    assert verdicts(1.2, 0.3, margin=1.0) == 0


def test_the_bounds_hold_the_true_gain_as_often_as_they_say() -> None:
    gains, held = [], 0
    for seed in range(200):
        logit, came, user = shop(seed)
        luck = np.random.default_rng(seed)
        both = tuple(yes_or_no(came, said(logit, noise, luck)) for noise in (0.8, 0.4))
        gains.append(gain_between(METRIC, both, user, 0.95))
    true = float(np.mean([each.by for each in gains]))
    held = sum(each.bounds[0] <= true <= each.bounds[1] for each in gains)  # type: ignore[index]
    assert 180 <= held < 200


def of_users(users: int) -> tuple[tuple[Answers, Answers], np.ndarray]:  # type: ignore[type-arg]
    logit, came, user = shop(7, users)
    luck = np.random.default_rng(7)
    return tuple(yes_or_no(came, said(logit, noise, luck)) for noise in (1.2, 0.2)), user  # type: ignore[return-value]


@pytest.mark.parametrize("figure", ["log_loss", "accuracy", "auc", "pr_auc", "ece"])
def test_every_figure_has_bounds_around_its_gain_and_less_is_better_where_it_is(
    figure: str,
) -> None:
    both, user = of_users(USERS)
    found = gain_between(f"purchase.{figure}", both, user, 0.95)
    assert found.by is not None
    assert found.bounds is not None
    assert found.by > 0
    assert found.bounds[0] < found.bounds[1]
    # The calibration error of a resample is larger than that of the sample: both ends move.
    assert found.bounds[0] <= found.by <= found.bounds[1] or figure == "ece"
    assert found == gain_between(f"purchase.{figure}", both, user, 0.95), "draws are seeded"


def test_rows_of_one_user_are_no_sample_of_users() -> None:
    logit, came, _ = shop(5)
    luck = np.random.default_rng(5)
    # What each user did once, she did twelve times: that tells nothing more.
    once = slice(None, None, ROWS)
    both = tuple(
        yes_or_no(np.repeat(came[once], ROWS), np.repeat(said(logit, noise, luck)[once], ROWS))
        for noise in (1.2, 0.3)
    )
    by_user = gain_between(METRIC, both, np.repeat(np.arange(USERS), ROWS), 0.95)
    as_rows = gain_between(METRIC, both, np.arange(USERS * ROWS), 0.95)
    width = [high - low for low, high in (by_user.bounds, as_rows.bounds)]  # type: ignore[misc]
    assert 2.5 < width[0] / width[1] < 4.5


def test_many_users_are_drawn_in_groups_and_the_bounds_are_as_wide() -> None:
    both, user = of_users(20_000)
    found = gain_between(METRIC, both, user, 0.95)
    assert found.users == 20_000
    assert found.bounds is not None
    means = [answers.means["log_loss"] for answers in both]
    by_user = np.bincount(user, means[0] - means[1]) / ROWS
    expected = 2 * 1.96 * by_user.std() / np.sqrt(len(by_user))
    assert found.bounds[1] - found.bounds[0] == pytest.approx(expected, rel=0.1)


def test_of_too_few_users_nothing_is_sure() -> None:
    both, user = of_users(LEAST_USERS - 1)
    assert gain_between(METRIC, both, user, 0.95).bounds is None
    both, user = of_users(LEAST_USERS)
    assert gain_between(METRIC, both, user, 0.95).bounds is not None


def test_only_rows_with_a_known_label_count_and_a_lost_head_has_no_gain() -> None:
    logit, came, user = shop(3)
    p = 1 / (1 + np.exp(-logit))
    labels = {name: np.full(len(p), head.unknown) for name, head in HEAD.items()}
    labels["purchase"] = np.where(user < 100, came, -1)
    asked = Asked(labels, user, np.ones(len(p), np.int64))
    found = gain(METRIC, asked, {"purchase": p}, {"purchase": p}, 0.95)
    assert found is not None
    assert (found.users, found.rows, found.by) == (100, 100 * ROWS, 0)
    assert gain(METRIC, asked, {"purchase": p}, {}, 0.95) is None
    assert gain("leave.log_loss", asked, {"leave": p}, {"leave": p}, 0.95) is None
