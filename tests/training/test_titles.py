"""Titles of items: what they say of an item that nobody has clicked."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from clickpath.cli import main
from clickpath.errors import UsageError
from clickpath.ids import token_hash
from training.form import ModelConfig
from training.lookup import Vocabulary
from training.titles import WIDTH, Titles, read_titles, titled, vectors_of

HOUR_MS = 3_600_000
KINDS = ("leather walking boots", "birthday gift card")


def titles_at(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_titles_that_mean_alike_have_vectors_that_lie_close() -> None:
    vectors = vectors_of(["red leather boots", "leather boots in red", "birthday gift card"])
    assert vectors.shape == (3, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    assert vectors[0] @ vectors[1] > 0.8 > 0.5 > vectors[0] @ vectors[2]


def test_a_title_has_one_vector_whatever_stands_beside_it() -> None:
    many = vectors_of(["a", "boots " * 60, "a", "card"])
    np.testing.assert_array_equal(many[0], many[2])
    np.testing.assert_allclose(many[3], vectors_of(["card"])[0], atol=1e-5)


def test_items_with_a_title_alone_get_a_row_while_there_is_room() -> None:
    clicked = np.array([token_hash("boot")])
    titles = Titles({token_hash("boot"): "boots", token_hash("card"): "gift card"}, "d")
    vocabulary = Vocabulary(clicked, np.array([5]))
    model = titled(ModelConfig(heads=("next_action",)), vocabulary, titles)
    assert model.embed.items.known == 2
    rows = model.embed.get_buffer("titles")[1:3]
    np.testing.assert_allclose(rows.norm(dim=1).numpy(), 1.0, rtol=1e-5)
    small = titled(ModelConfig(heads=("next_action",), items=1), vocabulary, titles)
    assert small.embed.items.known == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("boot\tboots\nno tab\n", ":2: 'no tab'"),
        ("\tboots\n", ":1: "),
        ("boot\t \n", ":1: "),
        ("", "has no titles"),
    ],
)
def test_a_line_that_is_no_title_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match="titles") as caught:
        read_titles(titles_at(tmp_path / "titles.tsv", text))
    assert says in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.tsv"):
        read_titles(tmp_path / "none.tsv")
    (tmp_path / "titles.tsv").write_bytes(b"boot\tb\xff\n")
    with pytest.raises(UsageError, match="byte 6 is not UTF-8"):
        read_titles(tmp_path / "titles.tsv")


def shop(corpus: Path, titles: Path, users: int) -> None:
    """Each item is new to the shop; whether it is bought follows from what its title says."""
    luck = random.Random(5)
    events, lines = [], []
    for user in range(users):
        begun_ms = 1_760_000_000_000 + user * HOUR_MS
        for n in range(3):
            item, kind = f"item-{user}-{n}", luck.randrange(2)
            lines.append(f"{item}\t{KINDS[kind]} number {luck.randrange(1000)}\n")
            for place, name in enumerate(("view_item", ("search", "add_to_cart")[kind])):
                event = {
                    "event_id": f"{user}-{n}-{place}",
                    "type": name,
                    "user_id": f"u{user}",
                    "ts_ms": begun_ms + n * 60_000 + place * 5_000,
                }
                events.append(event | ({} if name == "search" else {"item_id": item}))
    corpus.write_text("".join(json.dumps(each) + "\n" for each in events))
    titles.write_text("".join(lines))


@pytest.mark.slow
def test_titles_tell_of_items_that_nobody_has_clicked_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, titles = tmp_path / "clicks.jsonl", tmp_path / "titles.tsv"
    shop(corpus, titles, users=800)
    loss = {}
    for name, more in (("without", []), ("with", ["--titles", str(titles)])):
        arguments = ["--corpus", str(corpus), "--out", str(tmp_path / name), "--epochs", "12"]
        assert main(["train", *arguments, *more, "--json"]) == 0
        record = json.loads(capsys.readouterr().out.splitlines()[-1])
        loss[name] = record["heads"]["next_action"]["log_loss"]
    # Half of the steps are views of a new item, whose title tells what comes next.
    assert loss["with"] < 0.6 * loss["without"]
