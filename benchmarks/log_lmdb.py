"""LMDB: a B-tree in a memory map, with pairs in key order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.log_events import Events
from benchmarks.log_stores import Commit, CommitStore, LookupStore, Operation, import_optional

_MAP_SIZE = 4 << 30
_BATCH = 1000
_BATCH_LARGE = 10_000
_PUT, _MULTI = "put, txn of 1000", "putmulti, txn of 10 000"


class Lmdb(LookupStore, CommitStore):
    """LMDB with durable commits; the fastest peer so far."""

    module = "lmdb"
    name = "lmdb"
    promises = "no checksums; with sync=False a power cut may corrupt all"
    ways: tuple[str, ...] = (_MULTI, _PUT)
    metasync = True

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Append rising keys, with LMDB's append flag."""
        with closing(_open(path, sync=False, metasync=False, lock=False)) as environment:

            def multi() -> None:
                for start in range(0, events.count, _BATCH_LARGE):
                    stop = start + _BATCH_LARGE
                    pairs = zip(events.keys[start:stop], events.values(start, stop), strict=True)
                    with environment.begin(write=True) as transaction:
                        transaction.cursor().putmulti(pairs, append=True)

            def each() -> None:
                for start in range(0, events.count, _BATCH):
                    stop = start + _BATCH
                    pairs = zip(events.keys[start:stop], events.values(start, stop), strict=True)
                    with environment.begin(write=True) as transaction:
                        put = transaction.put
                        for key, value in pairs:
                            put(key, value, append=True)

            yield multi if way == _MULTI else each

    @contextmanager
    def scan(self, path: Path) -> Iterator[Operation]:
        """Read key and value without decoding them; the tag precedes the payload."""
        with closing(_open(path, readonly=True, lock=False)) as environment:

            def operation() -> None:
                with environment.begin() as transaction:
                    deque(transaction.cursor(), maxlen=0)

            yield operation

    @contextmanager
    def select(self, path: Path, tag: int) -> Iterator[Operation]:
        """Read every value, as a copy, which is faster here than a buffer."""
        with closing(_open(path, readonly=True, lock=False)) as environment:

            def operation() -> list[bytes]:
                with environment.begin() as transaction:
                    values = transaction.cursor().iternext(keys=False, values=True)
                    return [value[1:] for value in values if value[0] == tag]

            yield operation

    @contextmanager
    def find(self, path: Path, numbers: Sequence[int]) -> Iterator[Operation]:
        """Find all events in one transaction."""
        with closing(_open(path, readonly=True, lock=False)) as environment:

            def operation() -> None:
                with environment.begin() as transaction:
                    get = transaction.get
                    for number in numbers:
                        assert get(number.to_bytes(8, "big"))

            yield operation

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Commit one transaction, which syncs twice: the pages, and the meta page."""
        with closing(_open(path, metasync=self.metasync)) as environment:

            def commit(first: int, payloads: Sequence[bytes]) -> None:
                with environment.begin(write=True) as transaction:
                    for number, payload in enumerate(payloads, first):
                        transaction.put(number.to_bytes(8, "big"), payload)

            yield commit


class LmdbOneSync(Lmdb):
    """LMDB with one sync for each commit."""

    name = "lmdb metasync=False"
    promises = "a power cut may undo the last commit; no target"
    ways = ()
    metasync = False


def _open(path: Path, **options: Any) -> Any:
    return import_optional("lmdb").open(str(path), map_size=_MAP_SIZE, subdir=False, **options)
