"""The served model: candidates, the mixer, and the ranks of right answers."""

from __future__ import annotations

import numpy as np
import torch

from training.sessions.counts import CountConfig, count
from training.sessions.covisits import start_of_embeddings
from training.sessions.knn import SessionKnn
from training.sessions.log import Prefixes, Sessions, every_prefix
from training.sessions.net import NetConfig, PathNet
from training.sessions.ranker import Mixer, MixerConfig, Question, Ranker, fit_mixer
from training.sessions.ranking import ask, question, rank, together

LOG = Sessions.of([[1, 2, 3], [4, 5, 6], [1, 2, 3], [4, 5, 6]] * 5)
ROWS = 9
SMALL = NetConfig(width=8, layers=1, heads=2, copy_width=4, steps=6)
COUNTING = CountConfig(neighbours=4)


def small_ranker(best: int = 2) -> Ranker:
    torch.manual_seed(0)
    net = PathNet(SMALL, start_of_embeddings(LOG, ROWS, 8, 0))
    config = MixerConfig(best=best)
    return Ranker(net, count(LOG, ROWS, COUNTING), COUNTING, config).eval()


def asked_together(ranker: Ranker, prefixes: Prefixes) -> dict[float, list[float]]:
    asked = ask(ranker, SessionKnn(LOG, ROWS), prefixes)
    ranks = together(rank(each, ranker.mixer, (0.0, 1.0)) for each in asked)
    return {weight: each.tolist() for weight, each in ranks.fused.items()}


def test_each_candidate_is_named_once_and_scored() -> None:
    found, scores = small_ranker()(torch.tensor([[1, 2, 0], [4, 0, 0]]))
    keys = (found.path * ROWS + found.item).tolist()
    assert keys == sorted(set(keys))
    assert len(scores) == len(keys)
    assert {1, 2, 3} <= set(found.item[found.path == 0].tolist())
    assert found.own.all()


def test_scores_do_not_depend_on_the_batch() -> None:
    ranker = small_ranker()
    found, together_ = ranker(torch.tensor([[1, 2, 3], [4, 0, 0]]))
    _, alone = ranker(torch.tensor([[4]]))
    assert torch.allclose(together_[found.path == 1], alone, atol=1e-5)


def test_items_from_outside_are_scored_but_not_the_models_own() -> None:
    ranker = small_ranker(best=1)
    own = set(ranker.candidates(torch.tensor([[1, 2]])).item.tolist())
    stranger = next(item for item in range(1, ROWS) if item not in own)
    found = ranker.candidates(torch.tensor([[1, 2]]), torch.tensor([stranger, 3]))
    told = dict(zip(found.item.tolist(), found.own.tolist(), strict=True))
    assert told[stranger] is False
    assert told[3] is True


def test_a_mixer_learns_which_feature_to_trust() -> None:
    """The first feature is noise, the second is high for the right candidate."""
    torch.manual_seed(0)
    questions = []
    for _ in range(40):
        features = torch.randn(20, 2)
        right = torch.arange(0, 20, 5)
        features[right, 1] += 3
        questions.append(Question(torch.arange(20) // 5, right, features))
    mixer = Mixer(torch.tensor([1.0, 0.0]), MixerConfig())
    fit_mixer(mixer, questions, MixerConfig(epochs=10, rate=0.05), 0)
    scores = torch.stack([mixer(each.features).view(4, 5) for each in questions])
    assert (scores.argmax(2) == 0).float().mean() > 0.9


def test_before_it_is_fitted_a_mixer_sums_by_its_prior() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    mixer = Mixer(torch.tensor([0.5, 0.25]), MixerConfig()).eval()
    assert mixer(features).tolist() == [1.0, 2.5]


def test_without_questions_a_mixer_stays_as_it_is() -> None:
    none = Question(
        torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 2)
    )
    mixer = Mixer(torch.tensor([0.5, 0.25]), MixerConfig()).eval()
    fit_mixer(mixer, [none], MixerConfig(), 0)
    assert mixer(torch.tensor([[1.0, 2.0]])).tolist() == [1.0]


def test_a_feature_that_never_varied_in_fitting_does_not_drown_the_others() -> None:
    questions = [
        Question(
            torch.zeros(4, dtype=torch.long), torch.tensor([0]), torch.tensor([[1.0, 0.0]] * 4)
        )
    ]
    mixer = Mixer(torch.tensor([1.0, 0.0]), MixerConfig())
    fit_mixer(mixer, questions, MixerConfig(), 0)
    usual, strange = mixer(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist()
    assert abs(usual - strange) < 10


def test_what_is_no_candidate_has_no_rank() -> None:
    ranker = small_ranker(best=1)
    prefixes = Prefixes(Sessions.of([[1, 2], [], [7]]), np.array([3, 0, 0]))
    ranks = asked_together(ranker, prefixes)
    for each in ranks.values():
        assert np.isfinite(each).sum() == 1


def test_the_votes_of_neighbours_lift_an_item() -> None:
    ranker = small_ranker(best=8)
    with torch.no_grad():
        ranker.mixer.linear.weight.zero_()  # knows nothing: all candidates are equal
    ranks = asked_together(ranker, every_prefix(Sessions.of([[1, 2, 3]])))
    assert all(after < before for before, after in zip(ranks[0.0], ranks[1.0], strict=True))


def test_a_question_is_about_paths_whose_answer_the_model_names() -> None:
    ranker = small_ranker(best=1)
    prefixes = Prefixes(Sessions.of([[1, 2], [5], [4]]), np.array([3, 0, 5]))
    (asked,) = ask(ranker, SessionKnn(LOG, ROWS), prefixes)
    put = question(asked)
    assert len(put.right) == 2
    assert put.path[put.right].tolist() == [0, 1]
    assert len(put.path) == len(put.features)
