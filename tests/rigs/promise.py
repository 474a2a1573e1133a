"""Promises of a writer, and the check of a journal after a crash."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from journal.errors import DamagedJournal, FormatError, StorageError
from journal.log.reader import Reader
from tests.rigs import api

Row = tuple[int, bytes]
"""Tag and payload."""


@dataclass(slots=True)
class Promise:
    """Events to be written, by number, and the number below which they are promised.

    ``created`` is set when the existence of the journal was promised. ``tried`` holds the events of
    appends that did not return: they may be in the journal, under unknown numbers.
    """

    rows: list[Row] = field(default_factory=list)
    tried: set[Row] = field(default_factory=set)
    acknowledged: int = 0
    created: bool = False
    listener: Callable[[int, bool], None] | None = None
    guard: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, upto: int) -> None:
        """Record that everything below a number is promised."""
        with self.guard:
            self.created = True
            self.acknowledged = max(self.acknowledged, upto)
            if self.listener is not None:
                self.listener(self.acknowledged, self.created)

    def failed(self, error: StorageError) -> None:
        """Record that a writer failed: the events that it reports as durable are promised."""
        assert error.first_seq_lost >= self.acknowledged, f"{error}: after {self.acknowledged}"
        if self.created:
            self.acknowledge(error.first_seq_lost)

    def may_be(self, seq: int, row: Row) -> bool:
        """Return whether the event with this number can be this one."""
        return self.rows[seq : seq + 1] == [row] or row in self.tried


def rows_of(reader: Reader) -> list[Row]:
    """Read all events, and check that their numbers count up from 0."""
    rows: list[Row] = []
    for frame in reader.frames():
        assert frame.seq == len(rows), f"event {frame.seq} stands where {len(rows)} must"
        rows.append((frame.tag, bytes(frame.payload)))
    return rows


def whole_rows(path: Path) -> list[Row]:
    """Read a journal without defects."""
    with Reader(path) as reader:
        rows = rows_of(reader)
        assert reader.summary().damage == ()
        assert list(reader.verify(decode=False)) == []
    return rows


def surviving_rows(path: Path) -> list[Row]:
    """Read a journal after a crash, up to lost unacknowledged bytes."""
    rows: list[Row] = []
    with suppress(DamagedJournal), Reader(path) as reader:
        for frame in reader.frames():
            assert frame.seq == len(rows), f"event {frame.seq} stands where {len(rows)} must"
            rows.append((frame.tag, bytes(frame.payload)))
    return rows


def check(path: Path, promise: Promise, plan: api.Plan, seed: int = 0) -> None:
    """Check that a journal keeps a promise, and can be written and read again, twice.

    Raises AssertionError, or an error of the journal.
    """
    survived = _survived(path, promise)
    assert promise.acknowledged <= len(survived), (
        f"events {len(survived)} to {promise.acknowledged - 1} were acknowledged and are lost"
    )
    for seq, row in enumerate(survived):
        assert promise.may_be(seq, row), f"event {seq} was never written: {_short(row)}"
    rng = random.Random(seed)
    for turn in range(2):
        with api.open_writer(path, plan) as writer:
            assert writer.next_seq == len(survived), (
                f"turn {turn}: a writer goes on with {writer.next_seq}, readers saw {len(survived)}"
            )
            for row in _more(rng, turn):
                assert writer.append_frame(*row) == len(survived)
                survived.append(row)
            writer.sync()
        assert whole_rows(path) == survived, f"turn {turn}"


def _survived(path: Path, promise: Promise) -> list[Row]:
    if not promise.created:
        try:
            return surviving_rows(path)
        except (FileNotFoundError, FormatError):
            return []  # An interrupted creation.
    return surviving_rows(path)


def _more(rng: random.Random, turn: int) -> Iterable[Row]:
    for number in range(rng.randint(1, 3)):
        yield 200 + turn, b"again %d" % number + bytes(rng.choice((0, 40, 700)))


def _short(row: Row) -> str:
    return f"tag {row[0]}, {len(row[1])} bytes {row[1][:40]!r}"
