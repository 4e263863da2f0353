"""Commands without a broker: what they print, write and refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clickpath.cli import main
from stream.commands.arguments import print_result


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    assert main(["simulate", "--events", "3000", "--users", "100", "--out", str(file)]) == 0
    return file


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    result: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def test_a_seed_means_the_same_bytes(clicks: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    main(["simulate", "--events", "3000", "--users", "100", "--out", str(again)])

    assert again.read_bytes() == clicks.read_bytes()
    assert len(clicks.read_text().splitlines()) == 3_000


def test_replay_accounts_for_every_line_and_writes_what_it_decides(
    clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(clicks.read_bytes() + b"{oops\n")
    out = tmp_path / "out"

    assert main(["replay", str(broken), "--model", "none", "--out", str(out), "--json"]) == 0

    result = last_line(capsys)
    assert result["events_in"] == 3_001
    assert result["accepted"] == 3_000
    assert result["dead_letter_reasons"] == {"not_json": 1}
    decisions = (out / "decisions.jsonl").read_text().splitlines()
    assert len(decisions) == result["decisions"]
    interventions = (out / "interventions.jsonl").read_text().splitlines()
    assert len(interventions) == sum(result["interventions"].values())  # type: ignore[attr-defined]
    [letter] = (out / "dead-letters.jsonl").read_text().splitlines()
    assert json.loads(letter)["value"] == "{oops"


def test_replay_twice_gives_the_same_hashes(
    clicks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashes = []
    for _ in range(2):
        main(["replay", str(clicks), "--model", "none", "--json"])
        result = last_line(capsys)
        hashes.append((result["state_hash"], result["interventions_hash"]))

    assert hashes[0] == hashes[1]


def test_why_makes_a_logged_decision_again_and_finds_a_change(
    clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "decisions.jsonl"
    main(["replay", str(clicks), "--model", "none", "--out", str(tmp_path)])
    decisions = [json.loads(line) for line in log.read_text().splitlines()]
    sent = next(each for each in decisions if each["kind"] is not None)
    arguments = ["why", sent["decision_id"], "--log", str(log), "--model", "none", "--json"]
    capsys.readouterr()

    assert main(arguments) == 0
    assert last_line(capsys)["equal"] is True

    sent["propensity"] = 0.123
    log.write_text(json.dumps(sent) + "\n")
    assert main(arguments) == 1
    result = last_line(capsys)
    assert result["equal"] is False
    assert "propensity" in str(result["differences"])


def test_why_is_not_misled_by_an_event_that_is_called_like_a_decision(
    clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["replay", str(clicks), "--model", "none", "--out", str(tmp_path)])
    log = tmp_path / "decisions.jsonl"
    first, second, *_ = log.read_text().splitlines()
    decision_id = json.loads(first)["decision_id"]
    other = json.loads(second) | {"event_id": decision_id}
    log.write_text(f"{first}\n{json.dumps(other)}\n")
    capsys.readouterr()

    assert main(["why", decision_id, "--log", str(log), "--model", "none", "--json"]) == 0
    assert last_line(capsys)["decision_id"] == decision_id


def test_a_full_disk_ends_a_replay_with_a_sentence(
    clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "decisions.jsonl").symlink_to("/dev/full")

    assert main(["replay", str(clicks), "--model", "none", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"clickpath: cannot write to {tmp_path}: ")


@pytest.mark.parametrize(
    ("content", "message"), [("", "holds no record"), ("1,2,3,pv,4\n", "no record of")]
)
def test_a_file_without_a_single_event_is_a_mistake(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clicks.jsonl"
    file.write_text(content)

    assert main(["replay", str(file), "--model", "none", "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["accepted"] == 0
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--json", "redrive"], ["redrive", "--json"]])
def test_json_may_stand_before_or_after_an_action(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = tmp_path / "letters.jsonl"
    letters.write_text("")

    assert main(["dlq", *arguments, str(letters), "--dry-run"]) == 0
    assert last_line(capsys)["would_send"] == 0


def test_a_broker_that_does_not_answer_is_one_line(clicks: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "clickpath", "produce", str(clicks)]
    ended = subprocess.run(
        [*command, "--bootstrap-servers", "127.0.0.1:1"],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert ended.stderr == "clickpath: no broker answers at 127.0.0.1:1\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["replay", "no-such-file.jsonl", "--model", "none"], 2, "no-such-file.jsonl"),
        (["replay", "x", "--model", "none", "--policy", "no-such.yaml"], 2, "no-such.yaml"),
        (["replay", "x", "--format", "avro"], 2, "avro"),
        (["why", "00", "--log", "no-such.jsonl"], 2, "no-such.jsonl"),
        (["simulate", "--events", "0", "--out", "-"], 2, "--events is 0"),
        (["simulate", "--events", "5"], 2, "--out"),
        (["demo", "--rate", "-1"], 2, "--rate is -1"),
        (["topics", "create", "--partitions", "0"], 2, "--partitions is 0"),
        (["demo", "--rate", "inf"], 2, "--rate is inf"),
        (["produce", "x", "--rate", "0"], 2, "--rate: '0' is no number above 0"),
        (["simulate", "--bootstrap-servers", "x", "--rate", "nan"], 2, "--rate: 'nan'"),
        (["simulate", "--bootstrap-servers", "a:b"], 2, "'a:b' is no host:port"),
        (["worker", "--web-port", "99999", "--model", "none"], 2, "CLICKPATH_WEB_PORT"),
        (["worker", "--model", "no-such-model"], 1, "no-such-model"),
        (["dlq"], 2, "list|redrive"),
        (["erase", "--archive", "nowhere"], 2, "there is no archive at nowhere"),
        (["erase", "ann", "--timeout-s", "-5"], 2, "--timeout-s is -5, must be above 0"),
        (["erase", "ann", "--timeout-s", "nan"], 2, "--timeout-s is nan, must be above 0"),
        (["erase", "ann", "--archive", "nowhere"], 2, "there is no archive at nowhere"),
        (["models", "promote"], 2, "needs a version"),
        (
            ["models", "promote", "x", "--steps", "10,5"],
            2,
            "--steps is 10,5: the steps (10.0, 5.0)",
        ),
        (["models", "promote", "x", "--steps", "1,all"], 2, "--steps is '1,all': could not"),
        (
            ["models", "promote", "x", "--psi=-1"],
            2,
            "--psi is -1.0: Input should be greater than 0",
        ),
        (["models", "promote", "x", "--least-sessions=-1"], 2, "--least-sessions is -1: Input"),
        (["models", "add", "x"], 2, "CLICKPATH_MODEL_REPOSITORY is not set"),
        (["models", "status", "--bootstrap-servers", "127.0.0.1:1"], 2, "127.0.0.1:1"),
        (["drift", "--hours", "0"], 2, "--hours is 0"),
        (["drift", "--bootstrap-servers", "127.0.0.1:1"], 2, "127.0.0.1:1"),
        (["dlq", "redrive", "no-such.jsonl"], 2, "no-such.jsonl"),
        (["dlq", "list", "--reason", "not-json"], 2, "not-json"),
        (["topics", "create", "--bootstrap-servers", "127.0.0.1:1"], 2, "127.0.0.1:1"),
        (["produce", __file__, "--bootstrap-servers", "127.0.0.1:1"], 2, "127.0.0.1:1"),
        (["state", "hash", "--bootstrap-servers", "127.0.0.1:1"], 2, "127.0.0.1:1"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code

    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("clickpath: ")
    assert len(err.splitlines()) == 1


def test_nobody_has_a_pseudonym_for_an_id_that_no_user_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    key.write_text("a key that is long enough")
    monkeypatch.setenv("CLICKPATH_PSEUDONYM_KEY_FILE", str(key))
    assert main(["pseudonym", "ann", ""]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("clickpath: no user has the id ''")
    assert said.out == ""


def test_a_worker_warns_of_a_setting_without_effect_before_all_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLICKPATH_CACHE_MB", "64")
    assert main(["worker", "--model", "no-such-model"]) == 1
    [warning] = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert warning.startswith("CLICKPATH_CACHE_MB is 64, without effect")


def test_a_result_for_people_has_lists_and_counts_without_brackets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_result({"created": ["clicks", "models"], "existing": [], "by": {"a": 1}}, as_json=False)

    assert capsys.readouterr().out.splitlines() == [
        "created   clicks, models",
        "existing  none",
        "by        a 1",
    ]
