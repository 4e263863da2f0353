"""The worker says when the ids of a shop are refused, and not when somebody made a mistake."""

from collections import Counter

import pytest

from stream.personal_ids import PersonalIds
from stream.tally import Tally


def tally(accepted: int, refused: int) -> Tally:
    return Tally(accepted=accepted, dead_letters=Counter(personal_data=refused, not_json=3))


def test_a_mistake_in_a_thousand_records_is_no_cause_for_a_warning() -> None:
    ids = PersonalIds(pseudonyms=False)
    ids.look(tally(996, 1))
    assert ids.warning is None
    ids.look(tally(0, 0))
    assert ids.warning is None


def test_it_is_said_once_and_holds_until_the_share_is_small_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids = PersonalIds(pseudonyms=False)
    for _ in range(2):
        ids.look(tally(90, 7))
    assert ids.warning is not None
    assert ids.warning.startswith("14 of 200 records were refused")
    ids.look(tally(10_000, 0))
    assert ids.warning is None
    assert [each.getMessage()[:17] for each in caplog.records] == ["7 of 100 records "]


def test_with_a_key_only_the_ids_of_events_can_be_meant() -> None:
    ids = PersonalIds(pseudonyms=True)
    ids.look(tally(0, 7))
    assert ids.warning is not None
    assert "the id of the event looks like" in ids.warning
    assert "CLICKPATH_PSEUDONYM_KEY_FILE" not in ids.warning
