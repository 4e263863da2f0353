"""Parts: every example once, padded to its batch, in an order that a seed tells."""

from pathlib import Path

import numpy as np
import pytest

from clickpath.encoding import FEATURES
from clickpath.errors import UsageError
from training.dataset import Part
from training.labels import HEADS
from training.shards import Shard, joined, load_shard, shard_of


def part_of(lengths: list[int], first_user: int = 0) -> Part:
    """Paths whose actions are 1, their user and place in the path in the other features."""
    paths = np.zeros((len(lengths), FEATURES, max(lengths)), np.int64)
    for row, length in enumerate(lengths):
        paths[row, 0, :length] = 1
        paths[row, 1, :length] = first_user + row + 1
        paths[row, 5, :length] = np.arange(1, length + 1)
    users = np.arange(first_user, first_user + len(lengths))
    return Part.of(paths, {"purchase": paths[:, 5] % 2}, users, users * 1000)


def shards_of(lengths: list[int], size: int) -> list[Shard]:
    parts = (part_of(lengths[n : n + size], n) for n in range(0, len(lengths), size))
    return [shard_of(part.whole()) for part in parts]


def on_disk(folder: Path, lengths: list[int], size: int) -> Part:
    shards = shards_of(lengths, size)
    paths = tuple(folder / f"{n}.npz" for n in range(len(shards)))
    for path, shard in zip(paths, shards, strict=True):
        shard.save(path)
    return Part(paths, tuple(map(len, shards)), joined(shards).known())


LENGTHS = [1 + n % 7 for n in range(103)]


def test_a_batch_is_cut_to_its_longest_path_and_padded_with_the_unknown() -> None:
    (batch,) = part_of([2, 1, 3]).batches(10)
    assert batch.paths.shape == (3, FEATURES, 3)
    assert batch.paths[1, :, 1:].sum() == 0
    assert batch.labels["purchase"].tolist() == [[1, 0, -1], [1, -1, -1], [1, 0, 1]]
    assert batch.labels["next_item"].tolist() == [[0, 0, 0]] * 3
    assert {*batch.labels} == {head.name for head in HEADS}
    (short,) = part_of([2, 1]).batches(2)
    assert short.paths.shape == (2, FEATURES, 2)


def test_the_stored_order_is_the_order_of_batches_without_a_seed(tmp_path: Path) -> None:
    part = on_disk(tmp_path, LENGTHS, 10)
    batches = list(part.batches(16))
    assert [len(batch) for batch in batches] == [16] * 6 + [7]
    assert np.concatenate([batch.users for batch in batches]).tolist() == list(range(103))
    assert np.concatenate([batch.lengths for batch in batches]).tolist() == LENGTHS


def test_a_random_order_has_each_example_once_and_follows_its_seed(tmp_path: Path) -> None:
    part = on_disk(tmp_path, LENGTHS, 10)

    def users(seed: int) -> list[int]:
        batches = list(part.batches(16, seed))
        assert [len(batch) for batch in batches] == [16] * 6 + [7]
        for batch in batches:
            assert batch.lengths.tolist() == [LENGTHS[user] for user in batch.users]
            assert (batch.paths[:, 1, 0] == batch.users + 1).all()
        return [int(user) for batch in batches for user in batch.users]

    assert sorted(users(1)) == list(range(103))
    assert users(1) == users(1)
    assert users(1) != users(2)


def test_a_part_on_disk_is_the_part_in_memory(tmp_path: Path) -> None:
    stored, held = on_disk(tmp_path, LENGTHS, 10), part_of(LENGTHS)
    assert len(stored) == len(held) == 103
    assert stored.known == held.known
    for one, other in zip(stored.batches(103), held.batches(103), strict=True):
        assert np.array_equal(one.paths, other.paths)
        assert np.array_equal(one.labels["purchase"], other.labels["purchase"])
    assert np.array_equal(stored.last_labels()["purchase"], held.last_labels()["purchase"])


def test_last_labels_are_those_of_the_last_step_of_each_path() -> None:
    part = part_of([2, 1, 3])
    assert part.last_labels()["purchase"].tolist() == [0, 1, 1]
    assert part.whole().last_labels()["purchase"].tolist() == [0, 1, 1]
    assert part.last_labels()["next_action"].tolist() == [0, 0, 0]


def test_a_part_has_a_head_when_one_label_of_it_is_known() -> None:
    part = part_of([2])
    assert part.has("purchase")
    assert not part.has("leave")


def test_equal_shards_have_equal_bytes(tmp_path: Path) -> None:
    (shard,) = shards_of(LENGTHS, 103)
    shard.save(tmp_path / "a.npz")
    load_shard(tmp_path / "a.npz").save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_damaged_shard_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    shards_of([1, 2], 2)[0].save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"a\.npz cannot be read as a shard"):
        load_shard(path)
    with pytest.raises(UsageError, match=r"b\.npz cannot be read as a shard"):
        load_shard(tmp_path / "b.npz")
