"""A journal compared with a list in memory: written, crashed, resumed and read in any order."""

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from journal.log import CommitPolicy, RecoveryMode, RollPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.forged_journals import segment_name
from tests.support.plain_reader import reading
from tests.support.reader_oracle import outcome

ROLL_SIZE = 1500
TAGS = st.integers(1, 254) | st.sampled_from([1, 2, 65])
PAYLOADS = st.binary(max_size=40) | st.integers(0, 2000).map(lambda n: b"long" * n)
FRAMES = st.tuples(TAGS, PAYLOADS)
COMMITS = [
    CommitPolicy.EXPLICIT,
    CommitPolicy.EVERY,
    CommitPolicy.NONE,
    CommitPolicy.group(3, 3_600_000),
]
GRAINS = st.sampled_from([1, 8, 512, 4096])
"""Sizes of the units that reach the disk as a whole or not at all."""


class Disk:
    """The synced content of each file, so that a crash can remove the rest."""

    def __init__(self) -> None:
        self.synced: dict[int, tuple[bytes, int]] = {}

    def sync(self, descriptor: int) -> None:
        """Replace fdatasync."""
        status = os.fstat(descriptor)
        content = os.pread(descriptor, status.st_size, 0).rstrip(b"\0")
        self.synced[status.st_ino] = (content, status.st_size)

    def crash(self, source: Path, target: Path, rng: random.Random, grain: int) -> None:
        """Leave in ``target`` a possible state of ``source`` after a power cut."""
        if source.is_dir():
            target.mkdir()
            for file in sorted(source.glob("[0-9]*")):
                self._crash_file(file, target / file.name, rng, grain)
        else:
            self._crash_file(source, target, rng, grain)

    def _crash_file(self, source: Path, target: Path, rng: random.Random, grain: int) -> None:
        new = source.read_bytes()
        synced, size = self.synced.get(source.stat().st_ino, (b"", 0))
        old = synced + bytes(max(size, len(new)) - len(synced))
        state, kept = bytearray(old), rng.choice([0, 0.5, 0.9, 1])
        written = len(new.rstrip(b"\0"))
        for at in range(0, written, grain):
            if rng.random() < kept:
                state[at : at + grain] = new[at : at + grain]
        if rng.random() < 0.5:
            del state[rng.randrange(min(size, len(new)), len(state) + 1) :]
        target.write_bytes(state)
        self.synced[target.stat().st_ino] = (bytes(state), len(state))


class LogMachine(RuleBasedStateMachine):
    """``events`` holds everything appended and not lost in a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="log-machine-"))
        self.disk = Disk()
        self.events: list[tuple[int, bytes]] = []
        self.visible = 0
        self.generation = 0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fdatasync", self.disk.sync)
        self.patch.setattr(os, "fsync", lambda _: None)
        self.beside: Reader | None = None

    @property
    def path(self) -> Path:
        return self.folder / f"{self.generation}.journal"

    @initialize(
        roll=st.booleans(),
        compress=st.booleans(),
        commit=st.sampled_from(COMMITS),
    )
    def begin(self, roll: bool, compress: bool, commit: CommitPolicy) -> None:
        self.options: dict[str, Any] = {"compress": compress, "commit": commit}
        if roll:
            self.options["roll"] = RollPolicy(size_bytes=ROLL_SIZE)
        self._open()

    def _open(self) -> None:
        self.writer = Writer(self.path, **self.options)
        self.beside = Reader(self.path)
        self.seen: list[tuple[int, bytes]] = []
        assert self.writer.next_seq == len(self.events)

    def _flushed(self) -> None:
        self.visible = len(self.events)

    # -- writing -----------------------------------------------------------------------------

    @rule(frame=FRAMES)
    def append(self, frame: tuple[int, bytes]) -> None:
        assert self.writer.append_frame(*frame) == len(self.events)
        self.events.append(frame)
        if self.options["commit"] is CommitPolicy.EVERY:
            assert self.writer.durable_upto == len(self.events)

    @rule(frames=st.lists(FRAMES, max_size=8))
    def append_many(self, frames: list[tuple[int, bytes]]) -> None:
        first = len(self.events)
        assert self.writer.append_many(frames) == range(first, first + len(frames))
        self.events += frames

    @rule(tag=TAGS, payloads=st.lists(PAYLOADS, max_size=8))
    def append_payloads(self, tag: int, payloads: list[bytes]) -> None:
        first = len(self.events)
        assert self.writer.append_payloads(tag, payloads) == range(first, first + len(payloads))
        self.events += [(tag, payload) for payload in payloads]

    @rule()
    def flush(self) -> None:
        self.writer.flush()
        self._flushed()

    @rule()
    def sync(self) -> None:
        self.writer.sync()
        self._flushed()
        assert self.writer.durable_upto == len(self.events)

    @precondition(lambda self: self.events and self.options["commit"] is not CommitPolicy.NONE)
    @rule(data=st.data())
    def sync_and_wait(self, data: st.DataObject) -> None:
        self.sync()
        assert self.writer.wait(
            data.draw(st.integers(0, len(self.events) - 1)), timeout_seconds=DEADLINE_SECONDS
        )

    # -- ending ------------------------------------------------------------------------------

    @rule()
    def close_and_reopen(self) -> None:
        self._let_go()
        self._flushed()
        files = self._files()
        found = reading(*files)
        assert [row[1:3] for row in found.rows] == self.events
        assert not found.damage
        self._open()

    @rule(seed=st.integers(0, 1 << 32), grain=GRAINS)
    def crash(self, seed: int, grain: int) -> None:
        promised = self.writer.durable_upto
        before = self.path
        self.generation += 1
        self.disk.crash(before, self.path, random.Random(seed), grain)
        self._let_go()
        (shutil.rmtree if before.is_dir() else os.unlink)(before)
        rows, refused = outcome(self.path, RecoveryMode.POINT_IN_TIME)
        assert not refused
        assert promised <= len(rows) <= len(self.events)
        assert [row[:3] for row in rows] == [
            (seq, *event) for seq, event in enumerate(self.events[: len(rows)])
        ]
        del self.events[len(rows) :]
        self._flushed()
        self._open()
        assert outcome(self.path, RecoveryMode.TOLERATE_TAIL) == (rows, False)

    def _let_go(self) -> None:
        self.writer.close()
        if self.beside is not None:
            self.beside.close()

    def _files(self) -> list[bytes]:
        if not self.path.is_dir():
            return [self.path.read_bytes()]
        names = sorted(file.name for file in self.path.iterdir())
        assert names == [segment_name(index) for index in range(len(names))]
        return [(self.path / name).read_bytes() for name in names]

    # -- reading -----------------------------------------------------------------------------

    @rule(data=st.data())
    def read_forward(self, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(self.events) + 2))
        stop = data.draw(st.none() | st.integers(0, len(self.events) + 2))
        tags = data.draw(st.none() | st.sets(TAGS, max_size=4))
        with Reader(self.path) as reader:
            found = [frame[:3] for frame in reader.frames(start, stop=stop, tags=tags)]
            known = self._known(reader)
        assert found == [row for row in known if row[0] >= start and _wanted(row, stop, tags)]

    @rule(data=st.data())
    def read_backward(self, data: st.DataObject) -> None:
        start = data.draw(st.none() | st.integers(0, len(self.events) + 2))
        tags = data.draw(st.none() | st.sets(TAGS, max_size=4))
        with Reader(self.path) as reader:
            found = [frame[:3] for frame in reader.backward(start, tags=tags)]
            known = self._known(reader)
        stop = None if start is None else start + 1
        assert found == [row for row in reversed(known) if _wanted(row, stop, tags)]

    @rule(seq=st.integers(0, 300), count=st.integers(0, 5))
    def read_by_number(self, seq: int, count: int) -> None:
        with Reader(self.path) as reader:
            known = self._known(reader)
            if seq < len(known):
                assert reader.frame(seq)[:3] == known[seq]
                assert reader.frame(seq, verify=False)[:3] == known[seq]
            else:
                with pytest.raises(KeyError):
                    reader.frame(seq)
            last = [frame[:3] for frame in reader.last(count)]
            assert last == known[len(known) - count if count < len(known) else 0 :]

    @rule()
    def read_on_beside_the_writer(self) -> None:
        assert self.beside is not None
        frames = list(self.beside.frames(len(self.seen)))
        assert [frame.seq for frame in frames] == list(
            range(len(self.seen), len(self.seen) + len(frames))
        )
        self.seen += [frame[1:3] for frame in frames]
        assert self.seen == self.events[: len(self.seen)]
        assert len(self.seen) >= self.visible
        summary = self.beside.summary()
        assert not summary.damage

    def _known(self, reader: Reader) -> list[tuple[int, int, bytes]]:
        """Return the events that a reader has to show, at least all flushed events."""
        shown = reader.summary().events
        assert self.visible <= shown <= len(self.events)
        return [(seq, *event) for seq, event in enumerate(self.events[:shown])]

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self._let_go()
        self.patch.undo()
        shutil.rmtree(self.folder)


def _wanted(row: tuple[int, int, bytes], stop: int | None, tags: set[int] | None) -> bool:
    return (stop is None or row[0] < stop) and (tags is None or row[1] in tags)


def test_a_journal_is_the_list_of_what_was_appended() -> None:
    limits = settings(max_examples=30, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(LogMachine, settings=limits)


@pytest.mark.deep
def test_a_journal_is_the_list_of_what_was_appended_for_long(budget: Budget) -> None:
    count = 100 if budget.seconds else 400
    limits = settings(max_examples=count, stateful_step_count=60, deadline=None)
    run_state_machine_as_test(LogMachine, settings=limits)
