"""SQLite with a write-ahead log: one table of numbers, tags and bytes."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.log_events import Events
from benchmarks.log_stores import Commit, CommitStore, LookupStore, Operation

_BATCH = 10_000
_MANY, _EACH = "executemany, txn of 10 000", "execute, txn of 10 000"
_TIMEOUT_SECONDS = 60.0


class Sqlite(LookupStore, CommitStore):
    """SQLite from Python's standard library."""

    name = "sqlite3 WAL"
    promises = "checksums only in its log; appends with synchronous=off"
    ways = (_MANY, _EACH)

    @contextmanager
    def append(self, path: Path, events: Events, way: str) -> Iterator[Operation]:
        """Append rows; the rowid is the sequence number."""
        insert = "insert into e(tag, payload) values(?, ?)"
        with closing(_create(path, "off")) as connection:

            def operation() -> None:
                execute = connection.execute
                for start in range(0, events.count, _BATCH):
                    stop = start + _BATCH
                    rows = zip(events.tags[start:stop], events.payloads[start:stop], strict=True)
                    execute("begin")
                    if way == _MANY:
                        connection.executemany(insert, rows)
                    else:
                        for row in rows:
                            execute(insert, row)
                    execute("commit")

            yield operation

    @contextmanager
    def scan(self, path: Path) -> Iterator[Operation]:
        """Read number, tag and bytes."""
        query = "select number, tag, payload from e order by number"
        with closing(_connect(path)) as connection:
            yield lambda: deque(connection.execute(query), maxlen=0)

    @contextmanager
    def select(self, path: Path, tag: int) -> Iterator[Operation]:
        """Read one tag without an index, because an index would slow each append."""
        query = "select payload from e where tag = ? order by number"
        with closing(_connect(path)) as connection:
            yield lambda: [payload for (payload,) in connection.execute(query, (tag,))]

    @contextmanager
    def find(self, path: Path, numbers: Sequence[int]) -> Iterator[Operation]:
        """Find each event with one query."""
        query = "select tag, payload from e where number = ?"
        with closing(_connect(path)) as connection:

            def operation() -> None:
                execute = connection.execute
                for number in numbers:
                    assert execute(query, (number + 1,)).fetchone()

            yield operation

    @contextmanager
    def commits(self, path: Path) -> Iterator[Commit]:
        """Commit one transaction with synchronous=full; each thread has its own connection."""
        _create(path, "full").close()
        local = threading.local()
        connections: list[sqlite3.Connection] = []

        def commit(first: int, payloads: Sequence[bytes]) -> None:
            connection: sqlite3.Connection | None = getattr(local, "connection", None)
            if connection is None:
                connection = local.connection = _connect(path)
                connection.execute("pragma synchronous = full")
                connections.append(connection)
            connection.execute("begin immediate")
            rows = ((number, 1, payload) for number, payload in enumerate(payloads, first))
            connection.executemany("insert into e values(?, ?, ?)", rows)
            connection.execute("commit")

        try:
            yield commit
        finally:
            for connection in connections:
                connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )


def _create(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = _connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma synchronous = {synchronous}")
    connection.execute("create table e(number integer primary key, tag int, payload blob)")
    return connection
