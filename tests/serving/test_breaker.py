"""The circuit breaker and the budget for retries."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from clickpath.errors import PredictorUnavailable
from serving.triton.breaker import Breaker
from serving.triton.retries import RetryBudget

FAILURE = PredictorUnavailable("down")


class Server:
    """What is behind the breaker; its clock stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.answers = False
        self.knocks = 0
        self.breaker = Breaker("it", self._knock, threshold=3, pause_s=2.0, clock=self._clock)

    def _clock(self) -> float:
        return self.now_s

    async def _knock(self) -> bool:
        self.knocks += 1
        return self.answers

    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breaker.failed(self.breaker.admit(), FAILURE)

    async def refused(self) -> None:
        with pytest.raises(PredictorUnavailable, match="it has failed and is left alone"):
            self.breaker.admit()
        await asyncio.sleep(0)  # a knock that was begun comes to its end
        await asyncio.sleep(0)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_it_opens_after_failures_in_a_row(server: Server) -> None:
    server.fail(2)
    server.breaker.succeeded(server.breaker.admit())
    server.fail(2)
    assert server.breaker.state == "closed"

    server.fail(1)

    assert server.breaker.state == "opened"
    await server.refused()
    assert server.breaker.refused == 1


async def test_nobody_knocks_before_the_pause_is_over(server: Server) -> None:
    server.fail(3)
    server.now_s += 1.9
    await server.refused()
    assert server.knocks == 0

    server.now_s += 0.2
    await server.refused()

    assert server.knocks == 1


async def test_a_knock_without_an_answer_is_followed_by_another_pause(server: Server) -> None:
    server.fail(3)
    server.now_s += 2.0
    await server.refused()
    server.now_s += 1.9
    await server.refused()
    assert server.knocks == 1

    server.now_s += 0.2
    await server.refused()

    assert server.knocks == 2
    assert server.breaker.state == "opened"


async def test_one_call_at_a_time_is_the_trial_after_a_knock(server: Server) -> None:
    server.fail(3)
    server.now_s, server.answers = server.now_s + 2.0, True
    await server.refused()
    assert server.breaker.state == "half-opened"

    assert server.breaker.admit() is True
    await server.refused()
    server.breaker.succeeded(trial=True)

    assert server.breaker.state == "closed"
    assert server.breaker.admit() is False


async def test_a_trial_that_fails_opens_it_again(server: Server) -> None:
    server.fail(3)
    server.now_s, server.answers = server.now_s + 2.0, True
    await server.refused()

    server.fail(1)

    assert server.breaker.state == "opened"
    await server.refused()
    assert server.knocks == 1


async def test_a_trial_without_an_outcome_makes_way_for_another(server: Server) -> None:
    server.fail(3)
    server.now_s, server.answers = server.now_s + 2.0, True
    await server.refused()

    server.breaker.left_open(server.breaker.admit())

    assert server.breaker.state == "half-opened"
    assert server.breaker.admit() is True


async def test_a_call_from_before_it_opened_does_not_close_it(server: Server) -> None:
    old = server.breaker.admit()
    server.fail(3)

    server.breaker.succeeded(old)

    assert server.breaker.state == "opened"


async def test_refusing_for_a_long_time_takes_no_memory(server: Server) -> None:
    server.fail(3)
    for _ in range(100):
        await server.refused()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20_000):
        try:
            server.breaker.admit()
        except PredictorUnavailable:
            continue
    gc.collect()
    grown_bytes = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()

    assert grown_bytes < 50_000


def test_a_budget_pays_for_one_retry_in_ten_calls() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]

    for _ in range(9):
        budget.earn()
    assert not budget.spend()
    for _ in range(2):
        budget.earn()

    assert budget.spend()
    assert not budget.spend()
    assert budget.spent == 11
