"""The worker's handler with a model that follows paths step by step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clickpath.cli import main
from clickpath.encoding import Encoder
from clickpath.errors import ConfigError
from serving.cache_counts import CacheCounts
from serving.embedded import EmbeddedPredictor
from stream.metrics import Metrics
from stream.settings import Settings
from stream.wiring import make_predictor


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.jsonl"
    main(["simulate", "--events", "6000", "--users", "60", "--seed", "7", "--out", str(path)])
    return path


def replayed(
    clicks: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, object]:
    capsys.readouterr()
    assert main(["replay", str(clicks), "--json", *arguments]) == 0
    result: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return result


def test_interventions_do_not_depend_on_what_the_cache_holds(
    clicks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = replayed(clicks, capsys)
    monkeypatch.setenv("CLICKPATH_INCREMENTAL", "true")
    roomy = replayed(clicks, capsys, "--out", str(tmp_path / "roomy"))
    monkeypatch.setenv("CLICKPATH_CACHE_MB", "1")
    tight = replayed(clicks, capsys, "--out", str(tmp_path / "tight"))

    # Scores are recorded: every byte of every decision is the same.
    logs = [(tmp_path / name / "decisions.jsonl").read_bytes() for name in ("roomy", "tight")]
    assert logs[0] == logs[1]
    assert roomy["interventions_hash"] == tight["interventions_hash"]
    assert roomy["inference_paths"] == whole["inference_paths"] != 0
    assert roomy["decisions"] == whole["decisions"]


@pytest.mark.parametrize("again_with", ["true", "false"])
def test_a_decision_on_such_scores_is_made_again(
    clicks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    again_with: str,
) -> None:
    monkeypatch.setenv("CLICKPATH_INCREMENTAL", "true")
    replayed(clicks, capsys, "--out", str(tmp_path))
    log = tmp_path / "decisions.jsonl"
    every = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    scored = [each for each in every if each["scores"] is not None]
    monkeypatch.setenv("CLICKPATH_INCREMENTAL", again_with)
    for each in scored[:: len(scored) // 5]:
        assert main(["why", each["decision_id"], "--log", str(log), "--json"]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (result["equal"], result["scored_again"]) == (True, True)


async def test_it_is_off_until_it_is_asked_for_and_its_memory_is_bounded() -> None:
    settings = Settings()
    encoder = Encoder(settings.window)
    for given, cached in (
        (settings, None),
        (settings.model_copy(update={"incremental": True, "cache_mb": 3}), CacheCounts()),
    ):
        predictor = make_predictor(given, encoder)
        assert isinstance(predictor, EmbeddedPredictor)
        assert predictor.cache_counts() == cached
        await predictor.close()


def test_it_is_not_for_a_model_on_triton() -> None:
    settings = Settings(incremental=True, triton_url="127.0.0.1:1")

    with pytest.raises(ConfigError, match=r"model in the process, but CLICKPATH_TRITON_URL is"):
        make_predictor(settings, Encoder(settings.window))


def test_what_the_cache_does_is_a_metric() -> None:
    metrics = Metrics()
    metrics.count_cache(CacheCounts(hits=5, misses=2, evictions=1, entries=2, size_bytes=900))
    metrics.count_cache(CacheCounts(hits=9, misses=2, evictions=4, entries=3, size_bytes=1350))

    page = metrics.page().decode()
    assert "clickpath_cache_hits_total 9.0" in page
    assert "clickpath_cache_misses_total 2.0" in page
    assert "clickpath_cache_evictions_total 4.0" in page
    assert "clickpath_cache_users 3.0" in page
    assert "clickpath_cache_bytes 1350.0" in page
