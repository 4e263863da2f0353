"""A real worker asks a real Triton that is killed, stopped, slow or flooded, or given new versions.

Short by default; PROVE_SECONDS and PROVE_LOADS make it longer (`python -m
tests.serving.triton_chaos` prints the figures as JSON).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.serving.triton_chaos import FAULTS, MOST_GROWN_MB, load_versions, suffer

pytestmark = [pytest.mark.triton, pytest.mark.broker, pytest.mark.slow]

SECONDS = float(os.environ.get("PROVE_SECONDS", "3"))
LOADS = int(os.environ.get("PROVE_LOADS", "3"))

#: Why the fallback policy decides while a fault lasts; nobody has to give up on a slow server. In
#: three seconds one that stands still may be asked too seldom for the breaker to open.
REASONS = {
    "killed": {"predictor_unavailable"},
    "stopped": {"predictor_timeout", *(("predictor_unavailable",) if SECONDS >= 15 else ())},
    "slow": set(),
    "flooded": {"predictor_overloaded"},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_event_is_lost_and_nothing_waits_once_a_fault_is_over(
    tritonserver: None, tmp_path: Path, fault: str
) -> None:
    found = await suffer(fault, SECONDS, tmp_path)

    assert (found["lost"], found["twice"]) == (0, 0), found
    assert found["lag_s"] is not None, found
    assert set(found["reasons"]) >= REASONS[fault], found
    assert found["fallback_share"] < 0.8, found
    assert found["breaker"] == "closed", found
    # In so few seconds the usual rate is only roughly known; a storm is many times of it.
    assert found["calls_ratio"] <= (2.0 if SECONDS >= 15 else 3.0), found
    assert found["grown_mb"] <= MOST_GROWN_MB, found


async def test_no_call_fails_while_new_versions_are_loaded(
    tritonserver: None, tmp_path: Path
) -> None:
    found = await load_versions(LOADS, tmp_path)

    assert found["failed"] == 0, found
    assert found["answered"] > LOADS * 32, found
