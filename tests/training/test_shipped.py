"""The model that ships: made by the command on its card, and better than counting."""

import shlex

import pytest

from clickpath.encoding import Encoder
from clickpath.simulation import START_MS
from clickpath.window import Window
from serving.card import check_card, read_card, read_model
from serving.embedded import shipped_model
from serving.graph import Graph
from training import baselines
from training.build import Recipe, build
from training.corpus import Simulated
from training.dataset import Part
from training.examples import PARTS, Sampling
from training.predict import measure, run_graph

ENCODER = Encoder(Window())


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    corpus = Simulated(30_000, 600, 77)  # shoppers that it has never seen
    recipe = Recipe(sampling=Sampling(share=1.0))
    dataset = build(corpus, tmp_path_factory.mktemp("examples"), recipe, lambda _: None)
    return [dataset.part(name) for name in PARTS]


def test_its_card_fits_it_and_is_of_one_command() -> None:
    directory = shipped_model()
    card, model = read_card(directory), read_model(directory)
    check_card(card, model, ENCODER, directory)
    assert len(model) < 3_000_000
    assert shlex.split(card.command)[:2] == ["clickpath", "train"]
    sampling, time = card.data["sampling"], card.data["time"]
    assert isinstance(sampling, dict)
    assert isinstance(time, dict)
    assert sampling["seed"] != 77
    valid_from_ms = time["valid_from_ms"]
    assert isinstance(valid_from_ms, int)
    assert valid_from_ms > START_MS


def test_it_beats_the_baselines_on_shoppers_it_has_never_seen(
    parts: list[Part],
) -> None:
    train_part, _, test_part = parts
    of_model = measure(test_part, run_graph(Graph(shipped_model(), ENCODER), test_part))
    for baseline in baselines.fit(train_part).values():
        counted = measure(test_part, baseline.predict(test_part))
        assert of_model["next_action"]["log_loss"] < counted["next_action"]["log_loss"] - 0.05
        assert of_model["next_action"]["accuracy"] > counted["next_action"]["accuracy"] + 0.02
        assert of_model["purchase"]["log_loss"] < counted["purchase"]["log_loss"]
        assert of_model["purchase"]["auc"] > counted["purchase"]["auc"] + 0.03
