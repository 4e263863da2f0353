"""The judge of random actions sees what must not be: records are changed while it reads them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from clickpath import simulation
from clickpath.encoding import Encoder
from clickpath.logs import RawLine
from clickpath.simulation.faults import with_broken
from serving.embedded import EmbeddedPredictor, shipped_model
from stream.reading import StoredRecord
from tests.promises.judgement import Allowed, judge
from tests.promises.shop import Shop, lines_of
from tests.promises.versions import of_another_mind

pytestmark = [pytest.mark.broker, pytest.mark.slow]

Records = list[StoredRecord]
Change = Callable[[Records], Records]


class Changed(Shop):
    """A shop of whose topics one is read as something else."""

    topic = ""
    change: Change = staticmethod(list)

    async def on(self, topic: str) -> Records:
        records = await super().on(topic)
        return self.change(records) if topic == self.topic else records


def first(having: str, **fields: Any) -> Change:
    """Changes fields of the first record in which a field is neither null nor empty."""

    def change(records: Records) -> Records:
        values = [json.loads(each.value or b"") for each in records]
        place = next(n for n, value in enumerate(values) if value[having])
        return [*records[:place], _with(records[place], fields), *records[place + 1 :]]

    return change


def _with(record: StoredRecord, fields: dict[str, Any]) -> StoredRecord:
    # The writer of decisions is kept to byte for byte: nothing else but the fields may differ.
    value = {**json.loads(record.value or b""), **fields}
    return record._replace(value=json.dumps(value, separators=(",", ":")).encode())


def without_the_last(records: Records) -> Records:
    assert records
    return records[:-1]


def last_twice(records: Records) -> Records:
    return [*records, records[-1]]


#: What must not be, by what is to be seen; on which topic, and how it comes about.
WRONG: dict[str, tuple[str, Change]] = {
    "a decision is lost": ("decisions", without_the_last),
    "a decision is repeated": ("decisions", last_twice),
    "a model that never decided": ("decisions", first("scores", model="0123456789abcdef")),
    "scores are another model's": (
        "decisions",
        lambda records: [
            _with(each, {"scores": {**scores, "purchase": 1 - scores["purchase"]}})
            if (scores := json.loads(each.value or b"")["scores"])
            else each
            for each in records
        ],
    ),
    "scores are missing without a reason": ("decisions", first("scores", scores=None)),
    "scores may not be missing": (
        "decisions",
        first("scores", scores=None, fallback="predictor_timeout"),
    ),
    "another choice": ("decisions", first("kind", kind=None, offer=None, intervention=None)),
    "another path": ("decisions", first("user_id", now_ms=1)),
    "another user": ("decisions", first("user_id", user_id="somebody")),
    "a ledger from nowhere": ("decisions", first("user_id", ledger=[["coupon", 1]])),
    "an intervention is lost": ("interventions.coupon", without_the_last),
    "an intervention is repeated": ("interventions.coupon", last_twice),
    "another offer": ("interventions.coupon", first("offer", offer="everything-free")),
    "a dead letter is lost": ("clicks.dead-letter", without_the_last),
    "a late event is lost": ("clicks.late", without_the_last),
}


async def test_the_judge_sees_each_thing_that_must_not_be(  # type: ignore[no-untyped-def]
    make_shop, running, tmp_path
) -> None:
    made = await make_shop()
    shop = Changed(made.settings.bootstrap_servers, tmp_path, made.environ)
    lines = lines_of(simulation.simulate(1_500, 30, seed=5))
    users = [line.key for line in lines]
    broken = with_broken([line.value for line in lines[:20]], 1.0, 1)
    # Late by hours: what everybody did first comes once more, under other ids.
    late = [line.value.replace(b'"event_id":"', b'"event_id":"late-') for line in lines[:20]]
    for more in ([each.value for each in broken], late):
        lines += [RawLine(*each, (), "") for each in zip(users, more, strict=False)]
    await shop.produce(lines)
    worker = await running(shop)
    await shop.handled(worker)
    assert await worker.stop() == 0

    encoder = Encoder(shop.settings.window)
    # Of two models either may have decided: a mere comparison with one process would not do.
    directories = (shipped_model(), of_another_mind(tmp_path / "other"))
    models = [EmbeddedPredictor(directory, encoder) for directory in directories]
    allowed = Allowed(models={each.digest: each for each in models}, failing=False, repeats=False)
    seen = await judge(shop, lines, allowed)
    assert seen["decisions"] > 50
    assert seen["interventions"] > 10
    for what, (shop.topic, shop.change) in WRONG.items():
        try:
            await judge(shop, lines, allowed)
        except AssertionError:
            continue
        pytest.fail(f"not seen: {what}")
