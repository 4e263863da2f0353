"""What the schemas and the AsyncAPI document promise is what the topics hold."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.errors import BadEvent
from clickpath.logs import RawLine
from clickpath.simulation.faults import FAULTS, with_broken, with_stragglers
from clickpath.wire import click_to_json, parse
from serving.fake import FakePredictor
from stream.batch.records import OutputRecord
from stream.reference.asyncapi import described_topics
from stream.reference.schemas import closed, schemas
from stream.replay import Replay
from stream.settings import Settings
from stream.topics import Topics
from stream.wiring import make_handler
from tests.docs.node import node_program

ROOT = Path(__file__).resolve().parents[2]
NOW_MS = simulation.START_MS + 365 * 86_400_000
STRICT = {name: Draft7Validator(closed(each)) for name, each in schemas().items()}
CLICKS = list(simulation.simulate(4_000, 60, seed=29))

#: What the handler refuses although the schema cannot tell, or the other way round.
BEYOND_A_SCHEMA = {"empty", "too_large", "not_utf8", "not_json", "future_timestamp"}


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[OutputRecord]]:
    """Everything that a replay writes, by topic: with broken and late events, and a model that
    fails now and then.
    """
    settings = Settings()
    encoder = Encoder(settings.window)
    predictor = FakePredictor(encoder, failing=lambda call: call % 3 == 2)
    written: dict[str, list[OutputRecord]] = defaultdict(list)
    clicks = with_stragglers(CLICKS, 0.02, 3_600_000, seed=1)
    broken = with_broken(map(click_to_json, clicks), 0.05, seed=2)
    run = Replay(
        make_handler(settings, predictor, encoder),
        lambda: NOW_MS,
        lambda record: written[record.topic].append(record),
    )
    asyncio.run(run.run(RawLine(b"k", each.value, (), "") for each in broken))
    return written


def headers_of(record: OutputRecord) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_a_schema_and_describes_every_field(name: str) -> None:
    Draft7Validator.check_schema(schemas()[name])
    fields = schemas()[name]["properties"]
    assert [field for field, each in fields.items() if not each.get("description")] == []


def test_simulated_clicks_fit_their_schema() -> None:
    for click in CLICKS:
        STRICT["click"].validate(json.loads(click_to_json(click)))


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - BEYOND_A_SCHEMA))
def test_what_the_parser_refuses_the_schema_refuses_too(fault: str) -> None:
    broken = FAULTS[fault](json.loads(click_to_json(CLICKS[0])))
    with pytest.raises(BadEvent):
        parse(broken, (), NOW_MS)
    with pytest.raises(ValidationError):
        Draft7Validator(schemas()["click"]).validate(json.loads(broken))


def test_every_decision_fits_its_schema(outputs: dict[str, list[OutputRecord]]) -> None:
    decisions = [json.loads(each.value or b"") for each in outputs["decisions"]]
    for record, decision in zip(outputs["decisions"], decisions, strict=True):
        STRICT["decision"].validate(decision)
        STRICT["decision-headers"].validate(headers_of(record))
    # Of each kind there was one, or the test proves little.
    assert {each["scores"] is None for each in decisions} == {True, False}
    assert {each["intervention"] is None for each in decisions} == {True, False}
    assert {"sent", "holdout"} < {each["reason"] for each in decisions}
    assert any(each["fallback"] for each in decisions)
    assert any(each["ledger"] for each in decisions)


def test_every_intervention_fits_its_schema(outputs: dict[str, list[OutputRecord]]) -> None:
    records = [r for topic, rs in outputs.items() if topic.startswith("interventions.") for r in rs]
    contents = [json.loads(each.value or b"") for each in records]
    for record, content in zip(records, contents, strict=True):
        STRICT["intervention"].validate(content)
        STRICT["intervention-headers"].validate(headers_of(record))
    assert {bool(content["items"]) for content in contents} == {True, False}


@pytest.mark.parametrize(
    ("topic", "schema"),
    [("clicks.dead-letter", "dead-letter-headers"), ("clicks.late", "late-headers")],
)
def test_headers_of_refused_records_fit_their_schema(
    outputs: dict[str, list[OutputRecord]], topic: str, schema: str
) -> None:
    assert len(outputs[topic]) > 10
    for record in outputs[topic]:
        STRICT[schema].validate(headers_of(record))


def test_every_topic_is_described() -> None:
    assert described_topics() == set(Topics().configs())


def examples_in(page: str) -> Iterator[dict[str, Any]]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for block in re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL):
        yield json.loads(block)


def test_the_examples_of_the_page_on_events_fit_the_schemas() -> None:
    click, intervention = examples_in("events.md")
    STRICT["click"].validate(click)
    STRICT["intervention"].validate(intervention)


def test_the_page_on_events_names_every_type() -> None:
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    types = schemas()["click"]["properties"]["type"]["examples"]
    assert [name for name in types if f"`{name}`" not in text] == []


def checked(document: Path, folder: Path) -> dict[str, Any]:
    """What AsyncAPI's own parser says of a document."""
    node, program = node_program(ROOT / "tests/docs/asyncapi", folder)
    done = subprocess.run(
        [node, program / "check.mjs", document], capture_output=True, text=True, check=True
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def errors(said: dict[str, Any]) -> list[dict[str, Any]]:
    """Errors and warnings; hints, such as that there is a newer version, are left out."""
    return [each for each in said["diagnostics"] if each["severity"] < 2]


@pytest.mark.slow
def test_asyncapis_parser_accepts_the_document(tmp_path: Path) -> None:
    said = checked(ROOT / "docs/asyncapi.yaml", tmp_path)

    assert errors(said) == []
    assert said["version"] == "3.0.0"
    addresses = {each for each in said["channels"] if "{" not in each}
    assert addresses == {each for each in described_topics() if "interventions." not in each}
    assert "interventions.{kind}" in said["channels"]


@pytest.mark.slow
def test_asyncapis_parser_refuses_a_document_that_is_wrong(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs)
    document = yaml.safe_load((docs / "asyncapi.yaml").read_text(encoding="utf-8"))
    document["operations"]["readClicks"]["action"] = "read"
    document["components"]["messages"]["click"]["payload"]["schema"]["$ref"] = "./schemas/no.json"
    (docs / "asyncapi.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (tmp_path / "program").mkdir()

    said = checked(docs / "asyncapi.yaml", tmp_path / "program")
    places = " ".join(each["place"] for each in errors(said))

    assert "operations.readClicks.action" in places
    assert "components.messages.click.payload" in places
