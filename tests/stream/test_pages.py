"""The worker's pages: what probes and Prometheus see, and that nobody sees a user."""

import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from clickpath.policy_file import default_policy
from stream.app import Worker, create_app
from stream.batch.progress import PartitionProgress
from stream.settings import Settings
from stream.tally import Tally


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    settings = Settings(model="none", web_port=0, bootstrap_servers="127.0.0.1:1")
    worker = create_app(settings, None, lambda: 1_000_000)
    await worker.pages.start()
    yield worker
    await worker.pages.stop()


async def get(worker: Worker, path: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{worker.pages.port}{path}") as response,
    ):
        return response.status, await response.text()


async def test_a_worker_that_has_not_joined_is_alive_and_not_ready(worker: Worker) -> None:
    assert (await get(worker, "/health"))[0] == 200
    status, text = await get(worker, "/ready")
    assert status == 503
    assert "not in the group yet" in text


async def test_a_worker_that_recovered_is_ready(worker: Worker) -> None:
    worker.app.progress.recovered = True

    assert (await get(worker, "/ready"))[0] == 200


async def test_a_worker_that_commits_and_finishes_nothing_is_not_alive(worker: Worker) -> None:
    progress = worker.app.progress
    progress.recovered = True
    part = PartitionProgress(topic="clicks", partition=0, position=9, acked=0, committed=0)
    progress.partitions["clicks", 0] = part
    progress.last_commit_monotonic_s = time.monotonic()
    progress.last_moved_monotonic_s = time.monotonic() - 121

    assert (await get(worker, "/health"))[0] == 200
    part.highwater = 9
    status, text = await get(worker, "/health")
    assert status == 503
    assert "9 records wait; none done for 121 s" in text


async def test_metrics_count_what_happened(worker: Worker) -> None:
    tally = Tally(accepted=5, duplicates=2)
    tally.dead_letters["not_json"] = 3
    tally.inference_avoided["not_eligible"] = 4
    tally.held_back["coupon", "cap"] = 6
    worker.metrics.count(tally)

    status, text = await get(worker, "/metrics")

    assert status == 200
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["clickpath_events_total", "accepted"] == 5
    assert samples["clickpath_events_total", "duplicate"] == 2
    assert samples["clickpath_events_total", "dead_letter"] == 3
    assert samples["clickpath_dead_letters_total", "not_json"] == 3
    assert samples["clickpath_inference_avoided_total", "not_eligible"] == 4
    assert samples["clickpath_held_back_total", "coupon", "cap"] == 6


async def test_the_caps_of_the_policy_are_shown_and_those_alone(worker: Worker) -> None:
    for _ in range(2):
        _, text = await get(worker, "/metrics")
    shown = {
        (sample.labels["kind"], int(sample.labels["per_s"]) * 1000, int(sample.value))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "clickpath_cap"
    }
    policy = default_policy()
    caps = {("all", cap.per_ms, cap.most) for cap in policy.caps}
    caps |= {(kind.name, cap.per_ms, cap.most) for kind in policy.kinds for cap in kind.caps}
    assert shown == caps
    assert len(caps) > 5


@pytest.mark.parametrize("path", ["/", "/tables/", "/router/", "/agents/", "/graph/"])
async def test_there_is_no_other_page(worker: Worker, path: str) -> None:
    assert (await get(worker, path))[0] == 404


async def test_a_worker_whose_commits_are_not_confirmed_is_not_ready_then_not_alive(
    worker: Worker,
) -> None:
    progress = worker.app.progress
    progress.recovered = True
    progress.last_moved_monotonic_s = time.monotonic()
    progress.last_commit_monotonic_s = time.monotonic() - 16
    assert (await get(worker, "/health"))[0] == 200
    status, text = await get(worker, "/ready")
    assert status == 503
    assert "no commit for 16 s" in text

    progress.last_commit_monotonic_s = time.monotonic() - 121
    status, text = await get(worker, "/health")
    assert status == 503
    assert "no commit for 121 s" in text
