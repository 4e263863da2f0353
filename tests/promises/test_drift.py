"""`clickpath drift` and the worker's gauges on what a worker has really decided."""

import asyncio
import json
import os
import sys

import pytest

from clickpath import simulation
from tests.promises.shop import Shop

pytestmark = [pytest.mark.broker, pytest.mark.slow]


async def drift(shop: Shop, *arguments: str, **more: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clickpath", "drift", "--json", *arguments),
        env={
            **os.environ,
            **shop.environ,
            "CLICKPATH_BOOTSTRAP_SERVERS": shop.settings.bootstrap_servers,
            **more,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), complaint.decode()


async def test_ordinary_traffic_is_no_drift_to_the_command_and_to_the_worker(
    make_shop, running, to_lines, tmp_path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"decisions know pseudonyms only, clicks know ids")
    shop = await make_shop(pseudonym_key_file=str(key))
    worker = await running(shop)
    code, _, complaint = await drift(shop)
    assert code == 2
    assert "no decision with scores on decisions" in complaint
    await shop.produce(to_lines(simulation.simulate(20_000, 400, seed=41)))
    await shop.handled(worker)

    code, said, complaint = await drift(shop, "--check")
    assert code == 0, complaint
    told = json.loads(said.splitlines()[-1])
    assert told["events"] == 20_000
    assert {"psi_action", "psi_price", "psi_gap", "psi_purchase", "calibration"} <= told.keys()
    gauges = {figure: value for (name, figure), value in (await worker.samples()).items()
              if name == "drift"}  # fmt: skip
    print(f"\nthe command {told}, the worker {gauges}")
    assert all(value < 0.25 for name, value in gauges.items() if name.startswith("psi_"))

    # Workers may ask a Triton; whoever looks names the model, and that one is meant.
    asked = {"CLICKPATH_TRITON_URL": "127.0.0.1:1"}
    code, _, complaint = await drift(shop, **asked)
    assert code == 2
    assert "`--model DIR` names where it lies" in complaint
    code, said, complaint = await drift(shop, "--model", "shipped", **asked)
    assert (code, json.loads(said or "{}").get("model")) == (0, told["model"]), complaint
    code, _, complaint = await drift(shop, "--model", str(tmp_path))
    assert code == 1
    assert "there is no model card to read at" in complaint
