"""Journals of many segments: when the next one begins, and fail-over when a disk fails."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from journal import Reader, Writer, salvage
from journal.errors import JournalLocked, NotAJournal, OptionError, StorageError
from journal.log import CommitPolicy, RecoveryMode, RollPolicy, segment_files
from journal.log.appender import Appender
from tests.support.plain_reader import reading

EACH = 1000
SIZE = 8 * EACH
PAYLOAD = b"a payload that no header contains"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "many"


def files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def seqs(path: Path, mode: RecoveryMode = RecoveryMode.STRICT) -> list[int]:
    with Reader(path, mode=mode) as reader:
        return [frame.seq for frame in reader.frames()]


def write(writer: Writer, count: int) -> None:
    for _ in range(count):
        writer.append_frame(1, os.urandom(EACH))
        writer.flush()


def test_a_segment_that_is_large_enough_is_followed_by_the_next(path: Path) -> None:
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 40)
    names = files(path)
    assert names == [segment_files.segment_name(index) for index in range(len(names))]
    assert len(names) in (5, 6)
    sizes = [(path / name).stat().st_size for name in names]
    assert all(SIZE <= size <= SIZE + 3 * EACH for size in sizes[:-1])
    assert seqs(path) == list(range(40))
    whole = reading(*((path / name).read_bytes() for name in names))
    assert [row.seq for row in whole.rows] == list(range(40))
    assert not whole.damage


def test_every_way_to_append_rolls(path: Path) -> None:
    ways: dict[str, Callable[[Writer], object]] = {
        "frames": lambda writer: [writer.append_frame(1, os.urandom(EACH)) for _ in range(300)],
        "many": lambda writer: writer.append_many((1, os.urandom(EACH)) for _ in range(300)),
        "payloads": lambda writer: writer.append_payloads(1, [os.urandom(EACH)] * 300),
        "flushed": lambda writer: write(writer, 300),
    }
    for name, append in ways.items():
        journal = path.with_name(name)
        with Writer(journal, roll=RollPolicy(SIZE)) as writer:
            append(writer)
            append(writer)
        assert len(files(journal)) > 1, name
        assert seqs(journal) == list(range(600)), name


def test_an_old_segment_is_followed_by_the_next(path: Path) -> None:
    now = 1_000_000

    def clock() -> int:
        return now

    with Writer(path, roll=RollPolicy(age_seconds=10.0), clock=clock) as writer:
        writer.append_frame(1, b"young")
        now += 9_999_999
        writer.sync()
        assert len(files(path)) == 1
        now += 1
        writer.append_frame(1, b"old")
        writer.sync()
        assert len(files(path)) == 2
        now += 20_000_000
        writer.sync()
        assert len(files(path)) == 2, "a segment of no events is not followed by another"
    assert seqs(path) == [0, 1]


def test_a_directory_goes_on_rolling_when_it_is_opened_again(path: Path) -> None:
    for session in range(4):
        with Writer(path, roll=RollPolicy(SIZE) if session != 2 else None) as writer:
            assert writer.next_seq == session * 10
            write(writer, 10)
    assert seqs(path) == list(range(40))
    assert len(files(path)) > 3


def test_all_segments_are_one_journal_in_one_file_too(path: Path) -> None:
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 40)
    whole = path.with_name("whole.journal")
    whole.write_bytes(b"".join((path / name).read_bytes() for name in files(path)))
    assert seqs(whole) == list(range(40))
    with Writer(whole) as writer:
        assert writer.next_seq == 40
        write(writer, 1)
    assert seqs(whole) == list(range(41))


def test_an_unpublished_directory_has_no_name_until_it_is_published(path: Path) -> None:
    with Writer(path, roll=RollPolicy(SIZE), publish=False) as writer:
        write(writer, 20)
        assert not path.exists()
        writer.publish()
        assert len(files(path)) > 1
        write(writer, 20)
    assert seqs(path) == list(range(40))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_unpublished_directory_leaves_nothing_behind(path: Path) -> None:
    with Writer(path, roll=RollPolicy(SIZE), publish=False) as writer:
        write(writer, 20)
    assert not list(path.parent.iterdir())


def test_a_directory_has_one_writer(path: Path) -> None:
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 20)
        with pytest.raises(JournalLocked):
            Writer(path)


def test_what_cannot_roll_says_so(path: Path) -> None:
    single = path.with_name("single.journal")
    Writer(single).close()
    with pytest.raises(OptionError, match="roll needs a journal directory"):
        Writer(single, roll=RollPolicy())
    for roll in (RollPolicy(0), RollPolicy(1 << 40), RollPolicy(age_seconds=0.0)):
        with pytest.raises(OptionError):
            Writer(path, roll=roll)
    path.mkdir()
    with pytest.raises(NotAJournal, match="contains no segment file"):
        Writer(path)
    with pytest.raises(NotAJournal, match="contains no segment file"):
        Reader(path)


def test_files_that_are_no_segments_are_left_alone(path: Path) -> None:
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 20)
    (path / "notes.txt").write_text("mine")
    (path / "1.journal").write_text("no number of ten digits")
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 20)
    assert seqs(path) == list(range(40))
    assert (path / "notes.txt").read_text() == "mine"


# -- disks that fail ------------------------------------------------------------------------


class Failing:
    """Lets a system call fail a given number of times, and counts the calls that succeed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
        self.times = 0
        self._call = getattr(os, name)
        self._number = number
        monkeypatch.setattr(os, name, self.call)

    def call(self, *arguments: object) -> object:
        if self.times:
            self.times -= 1
            raise OSError(self._number, os.strerror(self._number))
        return self._call(*arguments)


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 20)], ids=["file", "directory"])
@pytest.mark.parametrize("name", ["fdatasync", "pwritev"])
def test_a_disk_that_fails_once_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, roll: RollPolicy | None, name: str
) -> None:
    failing = Failing(monkeypatch, name, errno.EIO)
    with Writer(path, roll=roll) as writer:
        write(writer, 5)
        writer.sync()
        write(writer, 5)
        failing.times = 1
        writer.append_frame(1, b"written while it fails")
        writer.sync()
        assert not failing.times
        assert writer.durable_upto == 11
        write(writer, 5)
    assert seqs(path) == list(range(16))
    if roll:
        assert len(files(path)) == 2, "what failed is not written to again"


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 20)], ids=["file", "directory"])
def test_an_interrupt_after_a_failed_sync_does_not_hide_the_failure(
    path: Path, monkeypatch: pytest.MonkeyPatch, roll: RollPolicy | None
) -> None:
    """Interrupt the thread while it waits for the lock: the next sync must not be believed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    failing = Failing(monkeypatch, "fdatasync", errno.EIO)
    with Writer(path, roll=roll, compress=False) as writer:
        writer.append_frame(1, PAYLOAD)
        failing.times = 1
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "finish_sync", interrupt)
            with pytest.raises(KeyboardInterrupt):
                writer.sync()
        assert (writer.durable_upto, count_copies(path)) == (0, 1)
        writer.sync()
        assert (writer.durable_upto, count_copies(path)) == (1, 2), "the block is written again"
    assert seqs(path) == [0]


def count_copies(path: Path) -> int:
    """Return how often the files of a journal contain ``PAYLOAD``."""
    found = path.iterdir() if path.is_dir() else [path]
    return sum(file.read_bytes().count(PAYLOAD) for file in found)


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 20)], ids=["file", "directory"])
def test_a_disk_that_fails_twice_ends_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch, roll: RollPolicy | None
) -> None:
    failing = Failing(monkeypatch, "fdatasync", errno.EIO)
    writer = Writer(path, roll=roll)
    write(writer, 5)
    writer.sync()
    write(writer, 5)
    failing.times = 2
    with pytest.raises(StorageError) as caught:
        writer.sync()
    assert caught.value.first_seq_lost == 5
    with pytest.raises(StorageError):
        writer.close()
    assert seqs(path, RecoveryMode.POINT_IN_TIME)[:5] == list(range(5))


def test_without_blocks_kept_the_first_failure_ends_the_writer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, "fdatasync", errno.EIO)
    writer = Writer(path, commit=CommitPolicy.NONE)
    write(writer, 5)
    failing.times = 1
    with pytest.raises(StorageError) as caught:
        writer.sync()
    assert caught.value.first_seq_lost == 0
    with pytest.raises(StorageError):
        writer.close()


def test_a_segment_that_cannot_be_created_is_no_reason_to_stop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 4)
        with monkeypatch.context() as patch:
            Failing(patch, "open", errno.EMFILE).times = 1000
            write(writer, 20)
            assert len(files(path)) == 1
        write(writer, 1100)
        assert len(files(path)) > 1, "it is tried again later"
    assert seqs(path) == list(range(1124))


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 20)], ids=["file", "directory"])
def test_a_full_disk_refuses_what_would_not_fit_and_takes_up_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, roll: RollPolicy | None
) -> None:
    full = Failing(monkeypatch, "posix_fallocate", errno.ENOSPC)
    with Writer(path, roll=roll, compress=False) as writer:
        write(writer, 5)
        full.times = 1_000_000
        taken = fill_up(writer)
        large = [bytes(EACH)] * 100
        for append in (
            lambda: writer.append_frame(1, bytes(EACH)),
            lambda: writer.append_payloads(1, large),
            lambda: writer.append_many((1, payload) for payload in large),
        ):
            with pytest.raises(StorageError, match="no space left to write"):
                append()
            assert writer.next_seq == taken
        writer.sync()
        assert writer.durable_upto == taken, "what it has taken fits"
        full.times = 0
        writer.append_frame(1, b"there is room again")
        full.times = 1_000_000
        writer.append_frame(1, b"and a clean close always fits")
    assert seqs(path) == list(range(taken + 2))


def fill_up(writer: Writer) -> int:
    """Append until an event is rejected; return its sequence number."""
    with suppress(StorageError):
        for _ in range(100_000):
            writer.append_frame(1, bytes(EACH))
        raise AssertionError("a full disk takes everything")
    return writer.next_seq


def test_small_events_that_were_taken_fit_when_the_disk_is_full(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make events of different sizes and times: their columns are larger than their payloads."""
    full = Failing(monkeypatch, "posix_fallocate", errno.ENOSPC)
    taken = 0
    with Writer(path, compress=False) as writer:
        writer.append_frame(1, b"begun")
        writer.sync()
        full.times = 1_000_000
        with suppress(StorageError):
            for number in range(1_000_000):
                writer.append_frame(1 + number % 3, b"ab"[: number % 3])
        taken = writer.next_seq
        assert taken > 1000
        writer.sync()
        assert writer.durable_upto == taken
    assert len(seqs(path)) == taken


def test_a_segment_file_that_cannot_be_opened_is_not_taken_for_an_empty_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(path, roll=RollPolicy(SIZE)) as writer:
        write(writer, 40)
    real = os.open

    def opening(name: str, *arguments: int, **options: int) -> int:
        if name == segment_files.segment_name(1):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(OSError, match="Too many open files"):
        seqs(path, RecoveryMode.SALVAGE)
    with pytest.raises(OSError, match="Too many open files"):
        salvage(path, path.with_name("recovered.journal"))
    assert not path.with_name("recovered.journal").exists()


def test_how_far_a_directory_is_durable_is_an_offset_of_its_last_file(path: Path) -> None:
    with Writer(path, roll=RollPolicy(5 * SIZE)) as writer:
        write(writer, 45)
        writer.sync()
        write(writer, 1)
        with Reader(path) as reader:
            summary = reader.summary()
            assert len(files(path)) > 1
            assert summary.durable_upto <= summary.tail
