"""The trainer's replay sees what the worker saw; a difference is found and counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clickpath.cli import main
from clickpath.encoding import Encoder
from clickpath.errors import UsageError
from clickpath.events import Click
from clickpath.simulation import simulate
from clickpath.simulation.faults import shuffled_within, with_duplicates, with_stragglers
from clickpath.window import Window
from clickpath.wire import click_to_json
from training.audit import compared, decisions_of_lines
from training.corpus import LogFile

ENCODER = Encoder(Window())


def arrived(events: int = 6_000) -> list[Click]:
    """A day of clicks with copies, disorder and stragglers beyond the window."""
    clicks = simulate(events, 60, seed=11)
    late = with_stragglers(clicks, 0.01, 2 * ENCODER.window.lateness_ms, seed=1)
    disturbed = shuffled_within(late, ENCODER.window.lateness_ms, seed=1)
    return list(with_duplicates(disturbed, 0.05, seed=1))


def log_of(clicks: list[Click], path: Path) -> Path:
    path.write_bytes(b"".join(click_to_json(click) + b"\n" for click in clicks))
    return path


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clicks, and the decisions that the worker's handler made on them."""
    folder = tmp_path_factory.mktemp("worker")
    log = log_of(arrived(), folder / "clicks.jsonl")
    assert main(["replay", str(log), "--model", "none", "--out", str(folder)]) == 0
    return folder


def test_every_decision_of_a_disorderly_day_is_encoded_alike(
    worker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(worker / "clicks.jsonl"), "--decisions", str(worker / "decisions.jsonl")]
    assert main(["audit", *arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    decisions = (worker / "decisions.jsonl").read_bytes().count(b"\n")
    assert record["decisions"] == decisions > 300
    assert record["mismatches"] == record["different"] == record["missing"] == 0
    assert (worker / "late.jsonl").read_bytes()  # the disorder was real


def test_a_click_that_the_trainer_sees_otherwise_is_found(worker: Path, tmp_path: Path) -> None:
    clicks = arrived()
    first = next(click for click in clicks if click.items)
    changed = [replace(c, items=()) if c.event_id == first.event_id else c for c in clicks]
    log = LogFile(log_of(changed, tmp_path / "clicks.jsonl"), "clickpath")
    found = compared(log, decisions_of_lines(worker / "decisions.jsonl"), ENCODER)
    assert found.different > 0
    assert found.missing == 0
    without = LogFile(log_of(clicks[:-500], tmp_path / "short.jsonl"), "clickpath")
    found = compared(without, decisions_of_lines(worker / "decisions.jsonl"), ENCODER)
    assert found.missing > 0
    assert found.mismatches >= found.missing


def test_one_mismatch_is_exit_code_1(
    worker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = log_of(arrived()[:-500], tmp_path / "short.jsonl")
    arguments = [str(log), "--decisions", str(worker / "decisions.jsonl")]
    assert main(["audit", *arguments]) == 1
    assert "mismatches" in capsys.readouterr().out


def test_a_decision_of_another_encoder_is_refused(worker: Path) -> None:
    log = LogFile(worker / "clicks.jsonl", "clickpath")
    other = Encoder(Window(steps=20))
    with pytest.raises(UsageError, match=f"the one in use is {other.fingerprint}"):
        compared(log, decisions_of_lines(worker / "decisions.jsonl"), other)


def test_what_is_no_decision_is_named_with_its_line(
    worker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "decisions.jsonl"
    first = (worker / "decisions.jsonl").read_bytes().splitlines()[0]
    wrong.write_bytes(first + b"\n{}\n")
    with pytest.raises(UsageError, match=r"decisions\.jsonl:2: no decision record"):
        list(decisions_of_lines(wrong))
    assert main(["audit", str(worker / "clicks.jsonl")]) == 2
    assert "--decisions is missing" in capsys.readouterr().err
    wrong.write_bytes(b"")
    with pytest.raises(UsageError, match="there are no decisions to compare with"):
        compared(LogFile(worker / "clicks.jsonl", "clickpath"), decisions_of_lines(wrong), ENCODER)
