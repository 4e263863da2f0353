"""Each format by example: `golden/NAME.json` or `.msgpack` must read as `golden/NAME.click.json`.

Headers, where a case has some, stand in `golden/NAME.headers.json`.
"""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from clickpath.wire import click_to_json, click_to_msgpack, parse

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.name.removesuffix(".click.json") for path in GOLDEN.glob("*.click.json"))
NOW_MS = 1_760_000_000_123


def case(name: str) -> tuple[bytes, dict[str, bytes]]:
    file = next(f for f in (GOLDEN / f"{name}.json", GOLDEN / f"{name}.msgpack") if f.exists())
    headers = GOLDEN / f"{name}.headers.json"
    if not headers.exists():
        return file.read_bytes(), {}
    return file.read_bytes(), {k: v.encode() for k, v in json.loads(headers.read_text()).items()}


@pytest.mark.parametrize("name", CASES)
def test_a_format_reads_as_its_golden_click(name: str) -> None:
    raw, headers = case(name)
    click = json.loads(json.dumps(asdict(parse(raw, headers, NOW_MS))))
    assert click == json.loads((GOLDEN / f"{name}.click.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_what_was_read_from_any_format_survives_the_canonical_ones(name: str) -> None:
    raw, headers = case(name)
    click = parse(raw, headers, NOW_MS)
    assert parse(click_to_json(click), (), NOW_MS) == click
    assert parse(click_to_msgpack(click), (), NOW_MS) == click


def test_every_input_has_an_expectation() -> None:
    inputs = {
        path.name.partition(".")[0]
        for path in GOLDEN.iterdir()
        if not path.name.endswith((".click.json", ".headers.json"))
    }
    assert inputs == set(CASES)
