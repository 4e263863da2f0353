"""Public click logs, line by line, as clicks.

Each function takes the numbered lines of its files and yields, in the order of the file, the clicks
that a line stands for, or None for a line that cannot be read. Event ids are derived from what a
line says, so that the same log always gives the same events; two lines that say the same are one
event. Times lie as the logs have them, or are made up where they have none:

-   Taobao: `user_id,item_id,category_id,behavior,unix_s`; nothing is made up.
-   Diginetica (CIKM Cup 2016), raw: `timeframe` counts milliseconds from the begin of a session, of
    which only the date is known. A session therefore begins at midnight (UTC) of its first
    `eventdate`, and is a user of its own: two sessions of one person on one day have no order. The
    lines of an order are one purchase. Purchases of sessions that the views do not have are left
    out: the views are a sample.
-   Diginetica, sessions (item ids, one session a line; in a file of prefixes the next item after a
    tab): each line is a user, its items are viewed a minute apart, and line n begins n seconds
    after the first of January 2016.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, time
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

from clickpath.errors import BadEvent, UsageError
from clickpath.events import MAX_ITEMS, MAX_TS_MS, Click, Item
from clickpath.ids import derived_event_id

_T = TypeVar("_T")


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        file: The file's name.
        number: The line's, from 1.
        raw: Its bytes, without its end.
    """

    file: str
    number: int
    raw: bytes

    @property
    def where(self) -> str:
        """The place, `file:line`."""
        return f"{self.file}:{self.number}"


class Reading(NamedTuple):
    """What became of a line.

    Attributes:
        line: The line; of a click that stands on several lines, the first.
        click: The click; None when the line cannot be read.
    """

    line: Line
    click: Click | None


_TAOBAO_ACTIONS: Final = {
    "pv": "view_item",
    "cart": "add_to_cart",
    "fav": "add_to_wishlist",
    "buy": "purchase",
}
_VIEWS_HEADER: Final = b"session_id;user_id;item_id;timeframe;eventdate"
_PURCHASES_HEADER: Final = b"sessionId;userId;timeframe;eventdate;ordernumber;itemId"
_CATEGORIES_HEADER: Final = b"itemId;categoryId"
_SESSIONS_BEGIN_MS: Final = 1_451_606_400_000  # 2016-01-01T00:00:00Z
_TAB: Final = b"\t"
_SECOND_MS: Final = 1_000
_STEP_MS: Final = 60_000
_MOST_CELL_CHARS: Final = 64
_LONGEST_SESSION_MS: Final = 366 * 24 * 3_600_000


def taobao(lines: Iterable[Line]) -> Iterator[Reading]:
    """The clicks of Taobao's behaviour log."""
    for line in lines:
        yield Reading(line, _read_or_none(_taobao_click, line))


def _taobao_click(line: Line) -> Click:
    user_id, item_id, category, behavior, unix_s = _cells(line, ",", 5)
    action = _TAOBAO_ACTIONS[behavior]
    return Click(
        event_id=derived_event_id("taobao", user_id, item_id, category, behavior, unix_s),
        user_id=user_id,
        ts_ms=int(unix_s) * _SECOND_MS,
        action=action,
        type_name=action,
        items=(Item(item_id, category),),
    )


class _View(NamedTuple):
    line: Line
    session: str
    item_id: str
    elapsed_ms: int
    midnight_ms: int


class _Purchase(NamedTuple):
    line: Line
    session: str
    order: str
    item_id: str
    elapsed_ms: int


def diginetica_raw(
    views: Iterable[Line], purchases: Iterable[Line], categories: Iterable[Line]
) -> Iterator[Reading]:
    """The clicks of Diginetica's raw log, session by session as the views have them.

    Purchases and categories are held in memory; the views are not. Within a session the clicks are
    in order of time.

    Raises:
        UsageError: A file without its header, or a category that cannot be read.
    """
    category_of = dict(_categories(categories))
    bought: dict[str, list[_Purchase]] = {}
    for line in _without_header(purchases, _PURCHASES_HEADER):
        purchase = _read_or_none(_purchase, line)
        if purchase is None:
            yield Reading(line, None)
        else:
            bought.setdefault(purchase.session, []).append(purchase)
    rows = ((line, _read_or_none(_view, line)) for line in _without_header(views, _VIEWS_HEADER))
    for session, run in groupby(rows, key=lambda row: row[1].session if row[1] else None):
        if session is None:
            yield from (Reading(line, None) for line, _ in run)
        else:
            seen = [view for _, view in run if view is not None]
            yield from _session_clicks(seen, bought.pop(session, []), category_of)


def _session_clicks(
    views: list[_View], purchases: list[_Purchase], category_of: dict[str, str]
) -> list[Reading]:
    session = views[0].session
    midnight_ms = min(view.midnight_ms for view in views)
    user_id = f"session-{session}"

    def click(action: str, elapsed_ms: int, items: tuple[Item, ...], *told: str) -> Click:
        event_id = derived_event_id("diginetica_raw", action, session, *told)
        return Click(event_id, user_id, midnight_ms + elapsed_ms, action, action, items)

    readings: list[tuple[int, Reading]] = []
    for view in views:
        item = Item(view.item_id, category_of.get(view.item_id))
        viewed = click("view_item", view.elapsed_ms, (item,), view.item_id, str(view.elapsed_ms))
        readings.append((viewed.ts_ms, Reading(view.line, viewed)))
    orders: dict[str, list[_Purchase]] = {}
    for purchase in purchases:
        orders.setdefault(purchase.order, []).append(purchase)
    for order, of_order in orders.items():
        pieces = Counter(each.item_id for each in of_order)
        items = tuple(Item(each, category_of.get(each), None, n) for each, n in pieces.items())
        elapsed_ms = min(each.elapsed_ms for each in of_order)
        if len(items) > MAX_ITEMS:
            unread = [Reading(each.line, None) for each in of_order]
            readings += [(midnight_ms + elapsed_ms, reading) for reading in unread]
            continue
        bought = click("purchase", elapsed_ms, items, order)
        readings.append((bought.ts_ms, Reading(of_order[0].line, bought)))
    return [reading for _, reading in sorted(readings, key=itemgetter(0))]


def _view(line: Line) -> _View:
    session, _, item_id, elapsed_ms, day = _cells(line, ";", 5)
    midnight = datetime.combine(date.fromisoformat(day), time(), UTC)
    midnight_ms = int(midnight.timestamp()) * _SECOND_MS
    if not 0 <= midnight_ms <= MAX_TS_MS - _LONGEST_SESSION_MS:
        raise ValueError(f"{day} is not in 1970 to 9999")
    return _View(line, session, item_id, _elapsed_ms(elapsed_ms), midnight_ms)


def _purchase(line: Line) -> _Purchase:
    session, _, elapsed_ms, _, order, item_id = _cells(line, ";", 6)
    return _Purchase(line, session, order, item_id, _elapsed_ms(elapsed_ms))


def _elapsed_ms(text: str) -> int:
    elapsed_ms = int(text)
    if not 0 <= elapsed_ms <= _LONGEST_SESSION_MS:
        raise ValueError(f"{elapsed_ms} ms is not the time since the begin of a session")
    return elapsed_ms


def _categories(lines: Iterable[Line]) -> Iterator[tuple[str, str]]:
    for line in _without_header(lines, _CATEGORIES_HEADER):
        try:
            item_id, category = _cells(line, ";", 2)
        except ValueError as error:
            raise UsageError(f"{line.where}: not an item and its category: {error}") from error
        yield item_id, category


def _without_header(lines: Iterable[Line], header: bytes) -> Iterator[Line]:
    numbered = iter(lines)
    first = next(numbered, None)
    if first is None:
        raise UsageError(f"an empty file, expected the line {header.decode()!r}")
    if first.raw != header:
        raise UsageError(f"{first.where}: expected the line {header.decode()!r}")
    return numbered


def diginetica_sessions(lines: Iterable[Line]) -> Iterator[Reading]:
    """The clicks of Diginetica's session files, session by session."""
    for line in lines:
        clicks = _read_or_none(_viewed, line)
        if clicks is None:
            yield Reading(line, None)
        else:
            yield from (Reading(line, click) for click in clicks)


def _viewed(line: Line) -> list[Click]:
    user_id = f"{'prefix' if _TAB in line.raw else 'session'}-{line.number}"
    begin_ms = _SESSIONS_BEGIN_MS + (line.number - 1) * _SECOND_MS
    return [
        Click(
            event_id=derived_event_id("diginetica_sessions", user_id, str(place), item_id),
            user_id=user_id,
            ts_ms=begin_ms + place * _STEP_MS,
            action="view_item",
            type_name="view_item",
            items=(Item(item_id),),
        )
        for place, item_id in enumerate(line.raw.decode("utf-8").split())
    ]


def _cells(line: Line, separator: str, columns: int) -> list[str]:
    """The cells of a row, none of them empty or too long for an id."""
    cells = line.raw.decode("utf-8").split(separator)
    if len(cells) != columns:
        raise ValueError(f"{len(cells)} columns, expected {columns}")
    if not all(0 < len(cell) <= _MOST_CELL_CHARS for cell in cells):
        raise ValueError("a cell is empty or too long")
    return cells


def _read_or_none(read: Callable[[Line], _T], line: Line) -> _T | None:
    try:
        return read(line)
    except (ValueError, KeyError, BadEvent):
        return None
