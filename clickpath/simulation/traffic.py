"""All shoppers together, in order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heapreplace
from typing import Final

from clickpath.errors import UsageError
from clickpath.events import Click
from clickpath.simulation.catalogue import catalogue
from clickpath.simulation.draws import Draws
from clickpath.simulation.personas import PERSONAS, Persona
from clickpath.simulation.shopper import Deed, Shopper

#: When the simulated traffic begins unless told otherwise: 2025-01-01 00:00 UTC.
START_MS: Final = 1_735_689_600_000

#: Asked after each click which kind of intervention the shopper receives, if any. The click is
#: what an outsider sees; the shopper is the truth, for experiments that know more.
Intervene = Callable[[Click, Shopper], str | None]


def simulate(
    events: int,
    users: int,
    seed: int,
    start_ms: int = START_MS,
    interventions: Intervene | None = None,
) -> Iterator[Click]:
    """The clicks of a shop, in order of time.

    The same arguments give the same clicks everywhere; fewer events give the beginning of more.
    Every shopper has luck of their own, so that an intervention changes nobody else's path.
    Memory is bounded by the number of users.

    Args:
        events: How many clicks, exactly.
        users: How many shoppers there are (a short run does not meet all of them).
        seed: Which shoppers; what is on sale does not depend on it.
        start_ms: Epoch milliseconds before which nothing happens.
        interventions: Which intervention follows a click; None for no interventions at all.

    Yields:
        Clicks with rising `ts_ms`; the clicks of one user never share one.

    Raises:
        UsageError: A negative number of events, or no users.
    """
    if events < 0 or users < 1:
        raise UsageError(f"cannot simulate {events} events of {users} users")
    return _traffic(events, users, seed, start_ms, interventions)


def _traffic(
    events: int, users: int, seed: int, start_ms: int, interventions: Intervene | None
) -> Iterator[Click]:
    shoppers = [_shopper(seed, number) for number in range(users)]
    visits: list[Iterator[Deed] | None] = [None] * users
    made = [0] * users
    due = [(start_ms + s.away_ms() * 2 // 3, number) for number, s in enumerate(shoppers)]
    heapify(due)
    left = events
    while left:
        ts_ms, number = due[0]
        shopper = shoppers[number]
        visit = visits[number]
        if visit is None:
            visit = visits[number] = shopper.visit()
        deed = next(visit, None)
        if deed is None:
            visits[number] = None
            heapreplace(due, (ts_ms + shopper.away_ms(), number))
            continue
        made[number] += 1
        click = Click(
            f"{seed:x}-{number}-{made[number]}",
            shopper.user_id,
            ts_ms,
            deed.action,
            deed.type_name or deed.action,
            deed.items,
            deed.value_cents,
        )
        yield click
        left -= 1
        if interventions is not None and (kind := interventions(click, shopper)) is not None:
            shopper.respond(kind)
        heapreplace(due, (ts_ms + shopper.dwell_ms(), number))


def _shopper(seed: int, number: int) -> Shopper:
    draws = Draws(seed, number)
    return Shopper(f"user-{number:06d}", _persona(draws), draws, catalogue())


def _persona(draws: Draws) -> Persona:
    place = draws.below(100)
    for persona in PERSONAS:
        place -= persona.share_pct
        if place < 0:
            return persona
    raise AssertionError("the shares of the personas do not add up to 100")
