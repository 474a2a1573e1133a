"""RocksDB (rocksdict) and LevelDB (plyvel): logs that are later sorted into levels of files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.log_events import Events
from benchmarks.log_stores import Commit, CommitStore, LookupStore, Operation, import_optional

_BATCH = 1000
_BATCHED, _PUT = "batches of 1000", "put"


class Rocks(LookupStore, CommitStore):
    """RocksDB."""

    module = "rocksdict"
    name = "rocksdict"
    promises = "crc32c per record and block; sorts after the measurement"
    ways = (_BATCHED, _PUT)

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Append to the log of the store; each write passes it to the kernel."""
        batch_of = import_optional("rocksdict").WriteBatch
        with closing(_open_rocks(path)) as store:

            def put_batches() -> None:
                for start in range(0, events.count, _BATCH):
                    stop = start + _BATCH
                    batch = batch_of(raw_mode=True)
                    put = batch.put
                    for key, value in zip(
                        events.keys[start:stop], events.values(start, stop), strict=True
                    ):
                        put(key, value)
                    store.write(batch)

            def put_each() -> None:
                for key, value in zip(events.keys, events.values(), strict=True):
                    store[key] = value

            yield put_batches if way == _BATCHED else put_each

    @contextmanager
    def scan(self, path: Path) -> Iterator[Operation]:
        """Read key and value without decoding them."""
        with closing(_open_rocks(path)) as store:
            yield lambda: deque(store.items(), maxlen=0)

    @contextmanager
    def select(self, path: Path, tag: int) -> Iterator[Operation]:
        """Read every value, and select the values of one tag."""
        with closing(_open_rocks(path)) as store:
            yield lambda: [value[1:] for value in store.values() if value[0] == tag]

    @contextmanager
    def find(self, path: Path, numbers: Sequence[int]) -> Iterator[Operation]:
        """Get each event by its key."""
        with closing(_open_rocks(path)) as store:

            def operation() -> None:
                for number in numbers:
                    assert store[number.to_bytes(8, "big")]

            yield operation

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Write a batch with sync=True. RocksDB joins the batches of several threads."""
        module = import_optional("rocksdict")
        options = module.WriteOptions()
        options.sync = True
        with closing(_open_rocks(path)) as store:

            def commit(first: int, payloads: Sequence[bytes]) -> None:
                batch = module.WriteBatch(raw_mode=True)
                for number, payload in enumerate(payloads, first):
                    batch.put(number.to_bytes(8, "big"), payload)
                store.write(batch, options)

            yield commit


class Level(LookupStore, CommitStore):
    """LevelDB."""

    module = "plyvel"
    name = "plyvel"
    promises = "crc32c per record and block; sorts after the measurement"
    ways = (_BATCHED, _PUT)

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Append to the log of the store; each write passes it to the kernel."""
        with closing(_open_level(path)) as store:

            def put_batches() -> None:
                for start in range(0, events.count, _BATCH):
                    stop = start + _BATCH
                    pairs = zip(events.keys[start:stop], events.values(start, stop), strict=True)
                    with store.write_batch() as batch:
                        put = batch.put
                        for key, value in pairs:
                            put(key, value)

            def put_each() -> None:
                put = store.put
                for key, value in zip(events.keys, events.values(), strict=True):
                    put(key, value)

            yield put_batches if way == _BATCHED else put_each

    @contextmanager
    def scan(self, path: Path) -> Iterator[Operation]:
        """Read key and value without decoding them."""
        with closing(_open_level(path)) as store:
            yield lambda: deque(store.iterator(), maxlen=0)

    @contextmanager
    def select(self, path: Path, tag: int) -> Iterator[Operation]:
        """Read every value, and select the values of one tag."""
        with closing(_open_level(path)) as store:
            yield lambda: [
                value[1:] for value in store.iterator(include_key=False) if value[0] == tag
            ]

    @contextmanager
    def find(self, path: Path, numbers: Sequence[int]) -> Iterator[Operation]:
        """Get each event by its key."""
        with closing(_open_level(path)) as store:

            def operation() -> None:
                get = store.get
                for number in numbers:
                    assert get(number.to_bytes(8, "big"))

            yield operation

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Write a batch with sync=True. LevelDB joins the batches of several threads."""
        with closing(_open_level(path)) as store:

            def commit(first: int, payloads: Sequence[bytes]) -> None:
                with store.write_batch(sync=True) as batch:
                    for number, payload in enumerate(payloads, first):
                        batch.put(number.to_bytes(8, "big"), payload)

            yield commit


def _open_rocks(path: Path) -> Any:
    module = import_optional("rocksdict")
    options = module.Options(raw_mode=True)
    options.create_if_missing(True)
    return module.Rdict(str(path), options)


def _open_level(path: Path) -> Any:
    return import_optional("plyvel").DB(str(path), create_if_missing=True)
