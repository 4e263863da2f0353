"""A cluster that has just started, and does not know its brokers yet."""

import pytest

from stream.batch.preflight import until_brokers_are_named
from stream.refusals import Unreachable


class Young:
    """A client of a cluster that names its broker from some answer on; and that cluster."""

    def __init__(self, answers: int) -> None:
        self.cluster = self
        self.asked = 0
        self._answers = answers

    def brokers(self) -> set[int]:
        return {1} if self.asked >= self._answers else set()

    async def force_metadata_update(self) -> bool:
        self.asked += 1
        return True


@pytest.mark.parametrize("answers", [0, 1, 3])
async def test_a_worker_waits_until_the_cluster_names_its_brokers(answers: int) -> None:
    client = Young(answers)
    await until_brokers_are_named(client, "kafka:9092", look_s=0.0)
    assert client.asked == answers


async def test_a_cluster_that_never_names_a_broker_is_one_sentence() -> None:
    with pytest.raises(Unreachable, match=r"kafka:9092 has named no broker for 0\.05 s"):
        await until_brokers_are_named(Young(1 << 30), "kafka:9092", patience_s=0.05, look_s=0.0)
