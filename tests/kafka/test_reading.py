"""Apache Kafka answers where a time begins, by the records' own times."""

import pytest

from tests.stream.counting import Job
from tests.stream.test_reading import reads_from_a_time_on

pytestmark = [pytest.mark.kafka]


async def test_records_before_a_time_are_not_fetched(job: Job) -> None:
    await reads_from_a_time_on(job.servers, job.out)
