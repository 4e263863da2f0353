"""From hashes to rows: every known token has its own, and no other one gets it."""

import numpy as np
import torch

from training.lookup import Lookup, most_frequent


def test_known_tokens_have_rows_of_their_own_and_others_share_those_behind() -> None:
    lookup = Lookup(np.array([7, 2**63 - 1, 15]), shared=4)
    rows = lookup(torch.tensor([[7, 15, 0], [2**63 - 1, 8, 2**62]]))
    assert rows.tolist() == [[1, 3, 0], [2, 4 + 8 % 4, 4 + 2**62 % 4]]
    assert lookup.rows == 1 + 3 + 4


def test_many_tokens_all_find_their_slot() -> None:
    tokens = np.unique(np.random.default_rng(1).integers(1, 2**63 - 1, 20_000))
    lookup = Lookup(tokens, shared=8)
    assert torch.equal(lookup(torch.from_numpy(tokens)), torch.arange(1, len(tokens) + 1))
    strangers = torch.from_numpy(np.random.default_rng(2).integers(1, 2**63 - 1, 20_000))
    assert (lookup(strangers) > len(tokens)).all()


def test_without_tokens_all_share() -> None:
    lookup = Lookup(np.zeros(0, np.int64), shared=3)
    assert lookup(torch.tensor([0, 5, 9])).tolist() == [0, 1 + 5 % 3, 1 + 9 % 3]


def test_the_most_frequent_come_first_and_equals_by_their_hash() -> None:
    counted = [np.array([9, 9, 0, 0, 0]), np.array([4, 5, 5, 6])]
    assert most_frequent(counted, most=3).tolist() == [5, 9, 4]
    assert most_frequent([], most=3).tolist() == []
