"""Dead letters: what of a record survives on its way to the topic, into a file and back."""

import json

from stream.batch.outputs import size_bytes
from stream.batch.records import OutputRecord
from stream.letters import cut_to_fit, letter_from_json, letter_from_record
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


def test_a_letter_that_fits_nowhere_is_cut_and_says_so() -> None:
    large = OutputRecord("letters", b"k" * 200_000, b" " * 900_000, (("trace", bytes(99)), *OURS))
    small = OutputRecord("letters", b"k", b"{", OURS)

    cut, kept = cut_to_fit([large, small], limit_bytes=1_000_000)

    assert kept is small
    assert size_bytes(cut) < 200_000
    assert cut.headers == (*OURS, ("clickpath-cut-from-bytes", b"%d" % size_bytes(large)))


def test_nothing_but_a_letter_is_cut() -> None:
    decision = OutputRecord("decisions", b"k", bytes(2_000_000))

    assert cut_to_fit([decision], limit_bytes=1_000_000) == [decision]
