"""State on disk: one RocksDB for each partition, for states that outgrow memory.

A database stands for its changelog up to an offset that is written together with the values. It
holds what the changelog has acknowledged and nothing else, so that whoever opens it again reads the
changelog from that offset on and has the newest value of each key, in whatever state a crash left
the rest. Where somebody else may have written between our own records, the offset stays behind
them: reading a record twice does no harm.

A tombstone vanishes from a compacted topic after a day. A database that nobody wrote to for half a
day is begun anew, so that nothing comes back that was deleted meanwhile.

What is deleted leaves the files with the next step, not with some later compaction: users are
erased so, and who hears of it may look. It blocks, for as long as RocksDB takes to write the files
anew that the key lies in.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from rocksdict import (
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    Options,
    Rdict,
    WriteBatch,
)

from clickpath.errors import ConfigError
from stream.batch.records import OutputRecord, RawRecord
from stream.batch.view import OLDEST_MS, View

V = TypeVar("V")

#: Values that were read or written last, as objects, for each partition.
_KEPT_VALUES: Final = 2_000

#: Blocks of the databases in memory, all partitions together; writes not yet in a file, each.
_CACHE_BYTES: Final = 64 << 20
_WRITE_BUFFER_BYTES: Final = 4 << 20

#: Keys of values, and the keys beside them; the last is there while deleted values are in files.
_VALUE: Final = b"k"
_META: Final = b"m"
_DELETING: Final = b"d"

#: From so many keys on all files are written anew at once, and not once for each key.
_MANY_KEYS: Final = 16
_LAYOUT: Final = struct.Struct(">qq")


class DiskStore:
    """Keeps the partitions of tables in a folder that no other worker uses.

    Args:
        folder: The folder; made when it is not there.
        now_ms: Wall clock, epoch milliseconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._folder = folder
        self._now_ms = now_ms
        self._cache = Cache(_CACHE_BYTES)

    def open(self, changelog: str, partition: int, loads: Callable[[bytes], V]) -> DiskView[V]:
        """The values of one partition, as they were left.

        Raises:
            ConfigError: The folder cannot be used, or another worker uses it.
        """
        path = self._folder / changelog / str(partition)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return DiskView(path, self._options(), loads, self._now_ms)
        except Exception as error:  # rocksdict raises nothing more special
            raise ConfigError(f"the states in {path} cannot be opened: {error}") from error

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_background_jobs(1)
        options.set_keep_log_file_num(1)
        # Begun anew with each change of files: it names the first and last key of each, also of
        # those that are gone.
        options.set_max_manifest_file_size(1)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_bloom_filter(10, False)
        options.set_block_based_table_factory(blocks)
        return options


class DiskView(View[V]):
    """The values of one partition; what is not committed yet is in memory."""

    def __init__(
        self,
        path: Path,
        options: Options,
        loads: Callable[[bytes], V],
        now_ms: Callable[[], int],
    ) -> None:
        self._path = path
        self._options = options
        self._loads = loads
        self._now_ms = now_ms
        self._unsaved: dict[bytes, V | None] = {}
        self._kept: dict[bytes, V] = {}
        self._db = Rdict(str(path), options=options)
        offset, saved_ms = self._meta()
        if now_ms() - saved_ms > OLDEST_MS:
            self.forget()
            return
        self.begin = offset
        if _DELETING in self._db:
            # A crash came between; which keys there were is not written down.
            self._rewrite(())

    def _meta(self) -> tuple[int, int]:
        raw = self._db.get(_META)
        return (0, 0) if raw is None else _LAYOUT.unpack(raw)

    def forget(self) -> None:
        """Begins anew, with an empty database."""
        self._db.close()
        Rdict.destroy(str(self._path), self._options)
        self._db = Rdict(str(self._path), options=self._options)
        self._unsaved.clear()
        self._kept.clear()
        self.begin = 0

    def get(self, key: bytes, default: V | None = None) -> V | None:  # type: ignore[override]
        """The value of a key, or `default`."""
        if key in self._unsaved:
            value = self._unsaved[key]
            return default if value is None else value
        value = self._kept.get(key)
        if value is None:
            raw = self._db.get(_VALUE + key)
            if raw is None:
                return default
            value = self._loads(raw)
            self._keep(key, value)
        return value

    def _keep(self, key: bytes, value: V) -> None:
        self._kept[key] = value
        if len(self._kept) > _KEPT_VALUES:
            # The one that came first.
            del self._kept[next(iter(self._kept))]

    def __getitem__(self, key: bytes) -> V:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, bytes):
            return False
        if key in self._unsaved:
            return self._unsaved[key] is not None
        return key in self._kept or self._db.get(_VALUE + key) is not None

    def __iter__(self) -> Iterator[bytes]:
        unsaved = dict(self._unsaved)
        yield from (key for key, value in unsaved.items() if value is not None)
        for stored in self._db.keys(from_key=_VALUE):
            assert isinstance(stored, bytes)
            if not stored.startswith(_VALUE):
                break
            if (key := stored.removeprefix(_VALUE)) not in unsaved:
                yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def size(self) -> int:
        """About how many values there are, without counting them."""
        return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def write(self, values: Mapping[bytes, V | None]) -> None:
        """Changes values; they are on disk once the changelog has them."""
        self._unsaved.update(values)
        for key in values:
            self._kept.pop(key, None)

    def restored(self, records: Sequence[RawRecord], end: int) -> None:
        """Takes over records of the changelog."""
        if self._made_anew(records, end):
            self.forget()
        pairs = [(each.key, each.value) for each in records if each.key is not None]
        for key, _ in pairs if self._kept else ():
            # Values from a time when the partition was ours.
            self._kept.pop(key, None)
        self._apply(pairs, end)

    def saved(
        self,
        records: Sequence[OutputRecord],
        end: int,
        *,
        unsaved: Container[bytes],
        alone: bool,
    ) -> None:
        """Takes over what the changelog has acknowledged."""
        together = self._goes_on(records, end, alone)
        pairs = [(each.key, each.value) for each in records if each.key is not None]
        self._apply(pairs, end if together else self.begin)
        for key, _ in pairs:
            if key not in unsaved:
                value = self._unsaved.pop(key, None)
                if value is not None:
                    self._keep(key, value)

    def _apply(self, pairs: Sequence[tuple[bytes, bytes | None]], end: int) -> None:
        batch = WriteBatch(raw_mode=True)
        deleted: list[bytes] = []
        for key, value in pairs:
            if value is not None:
                batch.put(_VALUE + key, value)
                continue
            batch.delete(_VALUE + key)
            if _VALUE + key in self._db:
                deleted.append(_VALUE + key)
        if deleted:
            batch.put(_DELETING, b"")
        batch.put(_META, _LAYOUT.pack(end, self._now_ms()))
        self._db.write(batch)
        self.begin = end
        if deleted:
            self._rewrite(deleted)

    def _rewrite(self, deleted: Sequence[bytes]) -> None:
        """Takes what was deleted out of the files: the log, the tables and the list of tables.

        Args:
            deleted: The keys; none, or many, stand for all there are.
        """
        options = CompactOptions()
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        self._db.flush()
        if 0 < len(deleted) < _MANY_KEYS:
            for key in deleted:
                self._db.compact_range(key, key + b"\0", options)
        else:
            self._db.compact_range(None, None, options)
        self._db.delete(_DELETING)
        # One more change of files, so that the list that names the old ones goes, too.
        self._db.flush()

    def close(self) -> None:
        """Closes the database; what is in it stays for the next time."""
        self._db.close()
