"""Every query of the dashboard names metrics that are served, and Prometheus answers it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from clickpath import simulation
from clickpath.logs import RawLine
from clickpath.simulation.faults import with_broken
from clickpath.wire import click_to_json
from stream.broker import EmbeddedBroker
from stream.process import WorkerProcess, free_port
from tests.docs.promql import DASHBOARD, metrics_in, promtool
from tests.promises.shop import Shop

ROOT = Path(__file__).resolve().parents[2]
BOARD: dict[str, Any] = json.loads((ROOT / DASHBOARD).read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    (panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*"))
    for panel in PANELS
    for target in panel["targets"]
]


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    """A worker that has seen clicks of all kinds, decides without a model, and is watched."""
    clicks = list(simulation.simulate(3_000, 60, seed=23))
    values = [each.value for each in with_broken(map(click_to_json, clicks), 0.05, 3)]
    with EmbeddedBroker() as broker:
        shop = Shop(broker.bootstrap_servers, tmp_path, {"CLICKPATH_MODEL": "none"})
        await shop.create_topics()
        worker = shop.worker()
        await worker.start()
        await worker.wait_ready(120)
        await shop.produce(
            RawLine(click.user_id.encode(), value, (), "")
            for click, value in zip(clicks, values, strict=True)
        )
        await shop.handled(worker)
        yield worker
        await worker.kill()


async def page(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200, await response.text()
        return await response.text()


@pytest.mark.broker
@pytest.mark.slow
async def test_a_live_worker_serves_every_metric_that_the_dashboard_asks_for(
    worker: WorkerProcess,
) -> None:
    served = set()
    for family in text_string_to_metric_families(await page(worker.address + "/metrics")):
        if family.type == "histogram":
            served |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            served.add(family.name + ("_total" if family.type == "counter" else ""))
    for title, query in QUERIES:
        assert metrics_in(query), title
        assert metrics_in(query) <= served, title


@pytest.mark.broker
@pytest.mark.slow
async def test_prometheus_answers_every_query_about_a_live_worker(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is absent (Debian's package prometheus brings it)")
    port = free_port()
    scrape = {
        "job_name": "clickpath",
        "scrape_interval": "1s",
        "static_configs": [{"targets": [worker.address.removeprefix("http://")]}],
    }
    config = tmp_path / "prometheus.yml"
    rules = [str(ROOT / "helm/clickpath/files/alerts.yaml")]
    config.write_text(
        yaml.safe_dump({"scrape_configs": [scrape], "rule_files": rules}), encoding="utf-8"
    )
    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        # What a worker without Triton and without a repository of models has no series of.
        families = text_string_to_metric_families(await page(worker.address + "/metrics"))
        there = {sample.name for family in families for sample in family.samples}
        silent = [(title, query) for title, query in QUERIES if metrics_in(query) <= there]
        assert len(silent) > 20
        async with asyncio.timeout(90):
            # A rate needs two scrapes.
            while silent:
                silent = [
                    (title, query)
                    for title, query in silent
                    if not await answer(f"http://127.0.0.1:{port}", query)
                ]
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise AssertionError(f"without an answer: {silent}") from None
    finally:
        prometheus.kill()
        await prometheus.wait()


async def answer(address: str, query: str) -> list[object]:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(f"{address}/api/v1/query", params={"query": query}) as response:
                # While it starts it refuses in plain text.
                content = await response.json() if response.status != 503 else None
        except aiohttp.ClientConnectionError:
            content = None
    if content is None:
        return []
    assert content["status"] == "success", f"{query}: {content}"
    series: list[object] = content["data"]["result"]
    return series


def test_promtool_reads_every_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{n}", "expr": query} for n, (_, query) in enumerate(QUERIES)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", "--lint=none", file)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert cells
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_every_panel_says_what_it_shows_and_asks_the_datasource_that_was_chosen() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    for panel in PANELS:
        assert panel["title"]
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for asking in (panel, *panel["targets"]):
            assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    assert names == {"datasource", "job"}
