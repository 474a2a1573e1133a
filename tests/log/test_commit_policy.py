"""Durability of events at each commit level, with one thread and with many."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from journal import Reader, Writer
from journal.errors import JournalError, OptionError, StorageError
from journal.log import CommitPolicy
from journal.log.group_commit import GroupCommit
from tests.support.deadlines import DEADLINE_SECONDS, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


class Disk:
    """Counts the syncs, and delays them or lets them fail on request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs = 0
        self.fails = False
        self.free = threading.Event()
        self.free.set()
        self._sync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self.sync)

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        assert self.free.wait(DEADLINE_SECONDS)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._sync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def seqs(path: Path) -> list[int]:
    with Reader(path) as reader:
        return [frame.seq for frame in reader.frames()]


def test_every_event_is_durable_when_append_returns(path: Path, disk: Disk) -> None:
    with Writer(path, commit=CommitPolicy.EVERY) as writer:
        for number in range(5):
            before = disk.syncs
            assert writer.append_frame(1, b"x") == number
            assert writer.durable_upto == number + 1
            assert disk.syncs == before + 1
            assert seqs(path) == list(range(number + 1))


def test_many_events_at_once_are_one_commit(path: Path, disk: Disk) -> None:
    with Writer(path, commit=CommitPolicy.EVERY) as writer:
        before = disk.syncs
        writer.append_many([(1, b"x")] * 1000)
        assert (writer.durable_upto, disk.syncs) == (1000, before + 1)
        writer.append_payloads(2, [b"y"] * 7)
        assert (writer.durable_upto, disk.syncs) == (1007, before + 2)


def test_a_group_commits_when_so_many_wait(path: Path, disk: Disk) -> None:
    with Writer(path, commit=CommitPolicy.group(events=10, milliseconds=3_600_000)) as writer:
        before = disk.syncs
        for number in range(9):
            writer.append_frame(1, b"x")
            assert (writer.durable_upto, disk.syncs) == (0, before), number
        writer.append_frame(1, b"x")
        assert (writer.durable_upto, disk.syncs) == (10, before + 1)


@pytest.mark.parametrize(
    "commit",
    [CommitPolicy.group(events=1000, milliseconds=1), CommitPolicy.interval(0.001)],
    ids=["group", "interval"],
)
def test_time_commits_what_waits_by_itself(path: Path, disk: Disk, commit: CommitPolicy) -> None:
    with Writer(path, commit=commit) as writer:
        for number in range(3):
            writer.append_frame(1, b"x")
            wait_until(lambda number=number: writer.durable_upto == number + 1)  # type: ignore[misc]
        idle = disk.syncs
        assert not threading.Event().wait(0.05)
        assert disk.syncs == idle, "nothing waits, and the disk is left alone"


def test_explicit_and_none_leave_it_to_the_caller(path: Path, disk: Disk) -> None:
    for commit in (CommitPolicy.EXPLICIT, CommitPolicy.NONE):
        with Writer(path, commit=commit) as writer:
            begin, before = writer.next_seq, disk.syncs
            writer.append_payloads(1, [bytes(1000)] * 1000)
            assert (writer.durable_upto, disk.syncs) == (begin, before)
            writer.sync()
            assert (writer.durable_upto, disk.syncs) == (begin + 1000, before + 1)
            writer.append_frame(1, b"durable by close")
    assert seqs(path) == list(range(2002))


def test_waiting_for_what_is_durable_costs_nothing(path: Path, disk: Disk) -> None:
    with Writer(path) as writer:
        first, second = writer.append_frame(1, b"1"), writer.append_frame(1, b"2")
        assert writer.wait(first)
        before = disk.syncs
        assert writer.wait(first)
        assert writer.wait(second), "one sync takes all that is there"
        assert disk.syncs == before
        with pytest.raises(OptionError, match="cannot wait for event 2: the last event is 1"):
            writer.wait(2)


def test_whoever_waits_too_long_is_told(path: Path, disk: Disk) -> None:
    with Writer(path) as writer:
        seq = writer.append_frame(1, b"x")
        disk.free.clear()
        leader = threading.Thread(target=writer.sync)
        leader.start()
        wait_until(lambda: disk.syncs > 1)
        assert not writer.wait(seq, timeout_seconds=0.01)
        assert writer.append_frame(1, b"taken while the disk is busy") == 1
        assert writer.durable_upto == 0
        disk.free.set()
        leader.join()
        assert writer.wait(seq, timeout_seconds=0.01)


def test_threads_share_the_syncs(path: Path, disk: Disk) -> None:
    each, threads = 50, 8
    with Writer(path, commit=CommitPolicy.EVERY) as writer:

        def produce(number: int) -> list[int]:
            mine = []
            for count in range(each):
                seq = writer.append_frame(number, b"%d" % count)
                assert writer.durable_upto > seq
                mine.append(seq)
            return mine

        disk.free.clear()
        with ThreadPoolExecutor(threads) as pool:
            results = pool.map(produce, range(1, threads + 1))
            # The next sync serves all other threads.
            wait_until(lambda: len(writer._sync._group_commit._queue) == threads - 1)
            disk.free.set()
            given = list(results)
    assert sorted(seq for mine in given for seq in mine) == list(range(each * threads))
    assert all(mine == sorted(mine) for mine in given)
    with Reader(path) as reader:
        found = {frame.seq: (frame.tag, frame.payload) for frame in reader.frames()}
    for number, mine in enumerate(given, 1):
        assert [found[seq] for seq in mine] == [(number, b"%d" % count) for count in range(each)]
    assert disk.syncs < each * threads, "one sync serves several threads"


def test_a_group_holds_producers_back_that_are_too_fast(path: Path, disk: Disk) -> None:
    with Writer(path, commit=CommitPolicy.group(events=100, milliseconds=3_600_000)) as writer:
        farthest = 0
        for _ in range(1000):
            farthest = max(farthest, writer.append_frame(1, b"x") - writer.durable_upto)
        assert farthest < 100
        assert writer.durable_upto == 1000


@pytest.mark.parametrize(
    "commit",
    [
        CommitPolicy.EVERY,
        CommitPolicy.group(events=50),
        CommitPolicy.interval(0.001),
        CommitPolicy.EXPLICIT,
    ],
    ids=lambda commit: str(commit.level),
)
def test_a_disk_that_fails_for_good_ends_every_level(
    path: Path, disk: Disk, commit: CommitPolicy
) -> None:
    writer = Writer(path, commit=commit)
    writer.append_frame(1, b"kept")
    writer.sync()
    disk.fails = True
    calls = (lambda: _write_much(writer), lambda: writer.append_frame(1, b"refused"))
    for call in (*calls, writer.flush, writer.sync):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.first_seq_lost == 1
    with pytest.raises(StorageError):
        writer.close()
    disk.fails = False
    assert seqs(path)[:1] == [0]


def test_all_who_wait_are_told_that_the_disk_failed(path: Path, disk: Disk) -> None:
    writer = Writer(path, commit=CommitPolicy.EVERY)
    disk.fails = True
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: _error_of(writer), range(4)))
    assert [type(error) for error in told] == [StorageError] * 4
    assert {error.first_seq_lost for error in told if isinstance(error, StorageError)} == {0}
    with pytest.raises(StorageError):
        writer.close()


def _write_much(writer: Writer) -> None:
    for _ in range(100):
        writer.append_frame(1, b"lost")
    writer.sync()


def _error_of(writer: Writer) -> Exception | None:
    try:
        writer.append_frame(1, b"x")
    except JournalError as error:
        return error
    return None


@pytest.mark.parametrize(
    "make",
    [
        lambda: CommitPolicy.group(events=0),
        lambda: CommitPolicy.group(milliseconds=0),
        lambda: CommitPolicy.interval(0),
    ],
)
def test_commits_that_make_no_sense_are_refused(make: Callable[[], CommitPolicy]) -> None:
    with pytest.raises(OptionError):
        make()


def test_a_leader_that_fails_lets_the_next_one_lead() -> None:
    calls = []

    def sync() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("once")

    turn = GroupCommit(sync, lambda: len(calls) - 1)
    with pytest.raises(OSError, match="once"):
        turn.wait(0, None)
    assert turn.wait(0, None)
    assert len(calls) == 2


def test_whoever_waits_is_told_when_the_sync_of_another_fails(path: Path, disk: Disk) -> None:
    writer = Writer(path)
    seq = writer.append_frame(1, b"x")
    disk.fails = True
    disk.free.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(writer.sync)
        wait_until(lambda: disk.syncs > 1)
        second = pool.submit(writer.wait, seq)
        disk.free.set()
        for future in (first, second):
            with pytest.raises(StorageError):
                future.result(DEADLINE_SECONDS)
    with pytest.raises(StorageError):
        writer.close()


def test_what_comes_while_a_writer_closes_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(path)
    writer.append_frame(1, b"taken")
    real = os.fdatasync
    refused: list[BaseException | None] = []

    def slow(descriptor: int) -> None:
        monkeypatch.setattr(os, "fdatasync", real)
        with ThreadPoolExecutor(1) as pool:
            refused.append(pool.submit(writer.append_frame, 2, b"late").exception(DEADLINE_SECONDS))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    writer.close()
    assert isinstance(refused[0], OptionError)
    assert seqs(path) == [0]


def test_a_timer_tries_again_when_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(path, commit=CommitPolicy.interval(0.001)) as writer:
        real, refused = writer.sync, 0

        def sync() -> None:
            nonlocal refused
            if refused < 3:
                refused += 1
                raise StorageError("there is no room", 0)
            real()

        assert writer._sync._committer is not None
        monkeypatch.setattr(writer._sync._committer, "_sync", sync)
        writer.append_frame(1, b"x")
        wait_until(lambda: writer.durable_upto == 1)
        assert refused == 3


def test_a_waiter_that_is_interrupted_keeps_no_other_from_leading(path: Path, disk: Disk) -> None:
    """Send Ctrl-C to the main thread, which would be the next leader."""
    with Writer(path) as writer, ThreadPoolExecutor(2) as pool:
        disk.free.clear()
        first = pool.submit(writer.wait, writer.append_frame(1, b"leads"))
        wait_until(lambda: disk.syncs > 1)
        seq = writer.append_frame(1, b"interrupted")
        interrupted = pool.submit(_interrupt_waiter, writer)
        with pytest.raises(KeyboardInterrupt):
            writer.wait(seq)
        interrupted.result(DEADLINE_SECONDS)
        disk.free.set()
        assert first.result(DEADLINE_SECONDS)
        for _ in range(3):
            assert pool.submit(writer.wait, writer.append_frame(1, b"next")).result(
                DEADLINE_SECONDS
            )
        assert writer.durable_upto == 5


def _interrupt_waiter(writer: Writer) -> None:
    """Interrupt the main thread once it waits for the sync of another thread."""
    wait_until(lambda: writer._sync._group_commit._queue)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
