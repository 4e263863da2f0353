"""The gate: a candidate that is not better, or worse in anything, never becomes a version."""

import json
from pathlib import Path
from typing import Any

import pytest

from clickpath.cli import main
from clickpath.errors import UsageError
from clickpath.simulation import simulate
from clickpath.simulation.traffic import START_MS
from clickpath.wire import click_to_json
from serving.card import read_card
from serving.promotion import Gain, read_promotion
from serving.repository.folder import TritonFolder
from serving.versions import VersionFolder
from training.corpus import LogFile
from training.gate import Thresholds, reasons_against
from training.newest import Newest

CHAMPION = {
    "next_action": {"log_loss": 0.70, "auc": 0.95, "ece": 0.01},
    "next_item": {"hr@10": 0.40, "ece": 0.02},
}
AS_FAST = {"champion": 2.0, "candidate": 2.0}
ASKED = Thresholds(margin=0.01)


def changed(head: str, **figures: float) -> dict[str, dict[str, float]]:
    """The champion's figures, better in the metric, with these changes."""
    better = {**CHAMPION, "next_action": {**CHAMPION["next_action"], "log_loss": 0.65}}
    return {**better, head: {**better[head], **figures}}


def better_by(by: float, low: float, high: float) -> Gain:
    return Gain(
        metric="next_action.log_loss",
        by=by,
        bounds=(low, high),
        confidence=0.95,
        users=500,
        rows=9_000,
        draws=1_000,
    )


SURELY = better_by(0.05, 0.04, 0.06)


def against(candidate: dict[str, dict[str, float]], **more: Any) -> list[str]:
    latency, gain = more.pop("latency", AS_FAST), more.pop("gain", SURELY)
    return reasons_against(ASKED, CHAMPION, candidate, gain, latency, **more)


def test_a_candidate_that_is_better_by_the_margin_and_worse_in_nothing_passes() -> None:
    assert against(changed("next_action", log_loss=0.69)) == []


@pytest.mark.parametrize(
    ("gain", "reason"),
    [
        (better_by(0.03, 0.009, 0.05), "at 95 % between 0.0090 and 0.0500; 0.01 better is asked"),
        (better_by(0.0, -0.001, 0.001), "better by 0.0000"),
        (better_by(-0.05, -0.06, -0.04), "better by -0.0500"),
        (better_by(0.5, float("nan"), 0.6), "between nan"),
        (SURELY.model_copy(update={"bounds": None, "users": 12}), "12 users are too few"),
        (SURELY.model_copy(update={"by": None, "bounds": None}), "is not known of it"),
        (None, "is not known of it"),
    ],
)
def test_one_that_is_not_better_by_the_margin_for_sure_is_refused(
    gain: Gain | None, reason: str
) -> None:
    [said] = against(changed("next_action"), gain=gain)
    assert reason in said


def test_the_lower_bound_may_be_the_margin_itself() -> None:
    assert against(changed("next_action"), gain=better_by(0.03, 0.01, 0.05)) == []


@pytest.mark.parametrize(
    ("head", "figures", "reason"),
    [
        ("next_item", {"hr@10": 0.39}, r"next_item.hr@10 is 0.3900"),
        ("next_item", {"hr@10": float("nan")}, r"next_item.hr@10 is nan"),
        ("next_item", {"ece": 0.05}, r"next_item.ece is 0.0500"),
        ("next_action", {"ece": float("nan")}, r"next_action.ece is nan"),
    ],
)
def test_one_that_is_worse_in_a_head_or_its_calibration_is_refused(
    head: str, figures: dict[str, float], reason: str
) -> None:
    [said] = against(changed(head, **figures))
    assert said.startswith(reason)


def test_one_that_lost_a_head_is_slower_or_forgot_the_days_before_is_refused() -> None:
    lost = {"next_action": changed("next_action")["next_action"]}
    assert against(lost) == ["it has no head next_item"]
    slow = {"champion": 2.0, "candidate": 2.6}
    assert "30 % more" in against(changed("next_action"), latency=slow)[0]
    forgot = {**CHAMPION, "next_item": {"hr@10": 0.39}}
    assert against(changed("next_action"), kept=(CHAMPION, forgot)) == [
        "head next_item keeps 97.5 % of its hr@10 on the days before, at least 99 % are needed"
    ]


def test_of_a_score_that_was_nothing_on_the_days_before_nothing_can_be_forgotten() -> None:
    nothing = {**CHAMPION, "next_item": {"hr@10": 0.0}}
    for now in (0.0, 0.2):
        kept = nothing, {**CHAMPION, "next_item": {"hr@10": now}}
        assert against(changed("next_action"), kept=kept) == []
    unknown = nothing, {**CHAMPION, "next_item": {"hr@10": float("nan")}}
    [said] = against(changed("next_action"), kept=unknown)
    assert said.startswith("head next_item keeps nan %")


def test_a_metric_that_is_none_is_a_mistake_and_no_verdict() -> None:
    with pytest.raises(UsageError, match=r"no figure 'purchase.auc', there are next_action"):
        reasons_against(Thresholds(metric="purchase.auc"), CHAMPION, CHAMPION, None, AS_FAST)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, float("nan")])
def test_a_confidence_is_between_0_and_1(confidence: float) -> None:
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        Thresholds(confidence=confidence)


# The command, on real trainings


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("days")
    paths = [folder / f"day{number}.jsonl" for number in (1, 2)]
    for number, path in enumerate(paths):
        clicks = simulate(12_000, 200, 3 + number, START_MS + number * 7 * 24 * 3_600_000)
        path.write_bytes(b"".join(click_to_json(click) + b"\n" for click in clicks))
    return paths


@pytest.fixture(scope="module")
def champion(days: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "champion"
    command = ["train", "--corpus", str(days[0]), "--out", str(out), "--epochs", "3"]
    assert main(command) == 0
    return out


def test_a_worse_candidate_is_refused_with_a_record_and_force_overrules_it_openly(
    champion: Path, days: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "candidate", tmp_path / "versions"
    # A rate at which training takes a model apart.
    ruinous = ["refresh", str(champion), "--corpus", str(days[1]), "--out", str(out)]
    ruinous += ["--rate", "30", "--epochs", "1", "--repository", str(folder), "--json"]
    assert main(ruinous) == 1

    captured = capsys.readouterr()
    assert "the gate refuses" in captured.err
    assert "next_action.log_loss is" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["version"] is None
    assert not folder.exists()
    record = read_promotion(out)
    assert record is not None
    assert (record.verdict, record.forced) == ("refuse", False)
    assert record.champion == read_card(champion).digest
    assert record.candidate == read_card(out).digest
    assert record.gain is not None
    assert record.gain.bounds is not None
    assert record.gain.bounds[1] < 0, "it is worse for sure"
    figures = record.figures
    assert (
        figures["candidate"]["next_action"]["log_loss"]
        > figures["champion"]["next_action"]["log_loss"]
    )  # type: ignore[operator]

    assert main([*ruinous, "--force"]) == 0
    [version] = VersionFolder(folder).versions()
    directory, _ = VersionFolder(folder).checked(version)
    forced = read_promotion(directory)
    assert forced is not None
    assert (forced.verdict, forced.forced) == ("refuse", True)


def test_a_better_candidate_becomes_a_version_with_its_record(
    champion: Path, days: list[Path], tmp_path: Path
) -> None:
    out, folder = tmp_path / "candidate", tmp_path / "versions"
    # Three epochs on so few clicks leave much to learn: trained for longer it is better.
    command = ["refresh", str(champion), "--corpus", str(days[1]), "--out", str(out)]
    command += ["--method", "full", "--epochs", "8", "--repository", str(folder)]
    command += ["--head-pct", "50", "--calibration", "0.5", "--latency-pct", "300"]
    command += ["--triton", str(tmp_path / "triton"), "--backend", "python"]
    assert main(command) == 0

    [version] = VersionFolder(folder).versions()
    directory, card = VersionFolder(folder).checked(version)
    on_triton, _ = TritonFolder(tmp_path / "triton", "clickpath").checked(version)
    assert read_promotion(on_triton) == read_promotion(directory)
    record = read_promotion(directory)
    assert record is not None
    assert (record.verdict, record.reasons, record.method) == ("promote", (), "full")
    assert card.data["refreshed"] == record.champion
    assert record.gain is not None
    assert record.gain.by is not None
    assert record.gain.bounds is not None
    low, high = record.gain.bounds
    assert 0.001 <= low < record.gain.by < high
    assert record.held_out["champion_until_ms"] < record.held_out["from_ms"]  # type: ignore[operator]


def test_lora_without_old_examples_is_one_sentence(
    champion: Path, days: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version = VersionFolder(tmp_path).put(champion)
    command = ["refresh", str(tmp_path / version), "--corpus", str(days[1])]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "has no examples, of which a LoRA refresh sees half" in capsys.readouterr().err


def test_the_newest_days_are_those_before_the_newest_click(days: list[Path]) -> None:
    corpus = LogFile(days[0], "clickpath")
    every = sorted(entry.step.ts_ms for entry in corpus.entries({}))  # type: ignore[arg-type]
    newest = Newest.of(corpus, 0.01)
    kept = [entry.step.ts_ms for entry in newest.entries({})]  # type: ignore[arg-type]
    assert 0 < len(kept) < len(every)
    assert sorted(kept) == every[-len(kept) :]
    assert min(kept) >= every[-1] - 864_000
    assert newest.sources()[-1].name == "of these the newest 0.01 days"
