"""Session logs and prefixes as files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from clickpath.errors import UsageError
from training.sessions.log import Sessions, every_prefix, read_prefixes, read_sessions


def test_ids_are_any_text_and_files_may_be_compressed(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.txt", tmp_path / "packed.gz"
    text = "a-1 ä b\n\nb a-1\nalone\n" + "a-1 b\n" * 50
    plain.write_text(text, encoding="utf-8")
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        sessions, rows = read_sessions(path)
        assert rows == {"a-1": 1, "ä": 2, "b": 3, "alone": 4}
        assert sessions[0].tolist() == [1, 2, 3]
        assert sessions[1].tolist() == [3, 1]
        assert len(sessions) == 52  # a session of one click has nothing to tell


def test_items_that_training_has_not_seen_leave_a_path_and_are_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "prefixes.tsv"
    file.write_text("a new b\ta\nnew\tb\na\tnew\n")
    prefixes = read_prefixes(file, {"a": 1, "b": 2})
    assert [prefixes.paths[i].tolist() for i in range(3)] == [[1, 2], [], [1]]
    assert prefixes.following.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a b c\n", "line 1: no tab"), ("a\t\n", "no tab and next item"), ("", "no prefixes")],
)
def test_a_file_that_is_none_of_prefixes_is_one_sentence(
    text: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "prefixes.tsv"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_prefixes(file, {})


def test_a_log_that_is_too_short_or_missing_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "sessions.txt"
    file.write_text("a b\n" * 49)
    with pytest.raises(UsageError, match="49 sessions of two items or more, must be at least 50"):
        read_sessions(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_sessions(tmp_path / "none.txt")


def test_every_click_but_the_first_has_a_prefix() -> None:
    prefixes = every_prefix(Sessions.of([[1, 2, 3], [4], [5, 6]]))
    assert [prefixes.paths[i].tolist() for i in range(3)] == [[1], [1, 2], [5]]
    assert prefixes.following.tolist() == [2, 3, 6]


def test_the_newest_session_has_age_zero() -> None:
    assert Sessions.of([[1], [2], [3], [4]]).ages.tolist() == [0.75, 0.5, 0.25, 0.0]
