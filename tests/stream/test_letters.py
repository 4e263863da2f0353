"""Dead letters: what of a record survives on its way to the topic, into a file and back."""

import json

from stream.letters import letter_from_json, letter_from_record
from stream.reading import StoredRecord

OURS = (
    ("clickpath-reason", b"not_json"),
    ("clickpath-origin-topic", b"clicks"),
    ("clickpath-origin-partition", b"3"),
    ("clickpath-origin-offset", b"17"),
)


def test_a_letter_keeps_its_headers_through_a_file_also_those_without_a_value() -> None:
    own = (("trace", None), ("content-type", b"application/json"), ("raw", b"\xff"))
    record = StoredRecord("clicks.dead-letter", 3, 5, 0, None, b"{", (*own, *OURS))

    letter = letter_from_record(record)

    assert letter.own_headers == own
    assert letter_from_json(json.loads(json.dumps(letter.to_json())), "here").own_headers == own
