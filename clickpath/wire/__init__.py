"""Bytes in, records out: the formats that Clickpath reads and writes."""

from clickpath.wire.canonical import click_to_json, click_to_msgpack
from clickpath.wire.parse import DAY_MS, MAX_EVENT_BYTES, parse, parse_arrival

__all__ = [
    "DAY_MS",
    "MAX_EVENT_BYTES",
    "click_to_json",
    "click_to_msgpack",
    "parse",
    "parse_arrival",
]
