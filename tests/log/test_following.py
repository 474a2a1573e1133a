"""Following a growing journal: each event once, soon, and without busy waiting."""

import errno
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import Frame, Reader, Writer
from journal.fs import file_watcher
from journal.log import RecoveryMode, RollPolicy
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.forged_journals import Forge, lay
from tests.support.numbered_journals import damage_block
from tests.support.writer_process import LiveWriter

SIZES = pytest.mark.parametrize("roll_size", [None, 4000], ids=["file", "directory"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


class Followed(threading.Thread):
    """Thread that follows a journal and records the time of each event."""

    def __init__(self, path: Path, start: int = 0, tags: set[int] | None = None) -> None:
        super().__init__()
        self.numbers: list[int] = []
        self.looks = 0
        self._path, self._first, self._tags = path, start, tags
        self._stopping = False
        self._change = threading.Condition()
        self.start()

    def run(self) -> None:
        with Reader(self._path) as reader:
            for frame in reader.follow(self._first, tags=self._tags, stop=self._is_to_stop):
                with self._change:
                    self.numbers.append(frame.seq)
                    self._change.notify_all()

    def _is_to_stop(self) -> bool:
        self.looks += 1
        return self._stopping

    def wait_for(self, seq: int) -> None:
        with self._change:
            came = self._change.wait_for(
                lambda: bool(self.numbers) and self.numbers[-1] >= seq, DEADLINE_SECONDS
            )
        assert came

    def end(self) -> list[int]:
        self._stopping = True
        self.join(DEADLINE_SECONDS)
        assert not self.is_alive()
        return self.numbers


@SIZES
def test_what_a_writer_adds_comes_once_and_in_order(path: Path, roll_size: int | None) -> None:
    with LiveWriter(path, roll_size) as writer:
        followers = [Followed(path), Followed(path, 100)]
        for count in (1, 1, 5, 300, 1, 1000):
            last = writer.write(count) - 1
            for followed in followers:
                if last >= 100:
                    followed.wait_for(last)
        writer.end()
    assert followers[0].end() == list(range(last + 1))
    assert followers[1].end() == list(range(100, last + 1))


@pytest.mark.deep
@SIZES
def test_a_follower_goes_on_behind_a_killed_writer(path: Path, roll_size: int | None) -> None:
    LiveWriter(path, roll_size).end()
    followed = Followed(path)
    last = 0
    for _ in range(4):
        with LiveWriter(path, roll_size) as writer:
            last = writer.write(50) - 1
            followed.wait_for(last)
            writer.kill()
    assert followed.end() == list(range(last + 1))


def test_only_the_wanted_kinds_come(path: Path) -> None:
    with Writer(path) as writer:
        followed = Followed(path, tags={2})
        for number in range(60):
            writer.append_frame(1 + number % 3, b"x")
            writer.flush()
        followed.wait_for(58)
    assert followed.end() == list(range(1, 60, 3))


def test_nothing_is_looked_at_while_nothing_changes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a change the follower then never looks a second time, however long the test takes.
    monkeypatch.setattr(file_watcher, "_RECHECK_SECONDS", 10 * DEADLINE_SECONDS)
    with Writer(path) as writer:
        writer.append_frame(1, b"x")
        writer.flush()
        followed = Followed(path)
        followed.wait_for(0)
        wait_until(lambda: followed.looks == 1)
        assert not threading.Event().wait(0.3)  # A follower that polls would look often meanwhile.
        assert followed.looks == 1
        monkeypatch.undo()
        writer.append_frame(1, b"y")
        writer.flush()
        followed.wait_for(1)
    followed.end()


def test_without_inotify_it_is_looked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_watcher, "_open_inotify", lambda path: -1)
    with Writer(path, roll=RollPolicy(4000)) as writer:
        writer.append_frame(1, b"x")
        writer.flush()
        followed = Followed(path)
        for number in range(1, 100):
            writer.append_frame(1, bytes(100))
            writer.flush()
            if number % 30 == 0:
                followed.wait_for(number)
        followed.wait_for(99)
    assert followed.end() == list(range(100))


@pytest.mark.parametrize("has_inotify", [True, False])
def test_a_deadline_that_has_just_passed_ends_a_wait_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, has_inotify: bool
) -> None:
    path.touch()
    if not has_inotify:
        monkeypatch.setattr(file_watcher, "_open_inotify", lambda path: -1)
    with file_watcher.FileWatcher(path) as watcher:
        watcher.wait(-0.001)
        watcher.wait(0)


def test_a_follower_ends_when_nothing_comes_for_long_enough(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_payloads(1, [b"x"] * 10)
        writer.flush()
        with Reader(path) as reader:
            begin = time.monotonic()
            assert len(list(reader.follow(timeout_seconds=0.05))) == 10
            assert time.monotonic() - begin >= 0.05


def test_a_block_that_is_being_written_is_no_damage(path: Path) -> None:
    """A reader waits for a block that it sees cut at any byte."""
    with Writer(path, compress=False) as writer:
        for number in range(3):
            writer.append_frame(1, b"%d" % number * 40)
            writer.flush()
    whole = path.read_bytes()
    with Reader(path) as reader:
        last = list(reader.blocks())[-1]
    for size in range(last.offset, len(whole), 7):
        path.write_bytes(whole[:size] + bytes(4096))
        with Reader(path) as reader:
            following = _grown(path, whole, reader)
            assert [frame.seq for frame in following] == [0, 1, 2], size


def _grown(path: Path, whole: bytes, reader: Reader) -> Iterator[Frame]:
    """Follow a journal whose last block arrives after the others were yielded."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        with path.open("r+b") as file:
            file.write(whole)
        return asked > 2

    return reader.follow(stop=stop)


def test_a_writer_that_fails_over_gives_nothing_twice(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = os.fdatasync, 0

    def fail(_: int) -> None:
        monkeypatch.setattr(os, "fdatasync", real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Writer(path, roll=RollPolicy(1 << 20)) as writer, Reader(path) as reader:
        writer.append_frame(1, b"0")
        writer.sync()

        def act() -> bool:
            nonlocal asked
            asked += 1
            if asked < 3:
                writer.append_frame(1, b"%d" % asked)
                writer.flush()
            if asked == 2:
                monkeypatch.setattr(os, "fdatasync", fail)
                writer.sync()
                writer.append_frame(1, b"3")
                writer.sync()
            return asked > 2

        assert [frame.seq for frame in reader.follow(stop=act)] == [0, 1, 2, 3]


def test_many_open_files_do_not_keep_it_from_waiting(path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 2000:
        pytest.skip("so many files cannot be opened here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, before[1]))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with Writer(path) as writer, Reader(path) as reader:
            writer.append_frame(1, b"x")
            writer.flush()
            assert len(list(reader.follow(timeout_seconds=0.02))) == 1
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_damage_behind_numbers_with_holes_is_told_once_and_ends_nothing(path: Path) -> None:
    forge = Forge()
    forge.add((1, b"fifth"), (1, b"ninth"), numbers=[5, 9])
    lay(path, [forge.data, b"a segment file without a header" * 9])
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        looks = iter(range(5))
        found = reader.follow(stop=lambda: next(looks) > 2, timeout_seconds=0.2)
        assert [frame.seq for frame in found] == [5, 9]
        assert len(reader.losses) == 1


def test_a_follower_of_a_point_in_time_ends_before_the_damage(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.journal"
    with Writer(path) as writer:
        for number in range(5):
            writer.append_frame(1, b"%d" % number)
            writer.flush()
        shutil.copy(path, copy)  # Closing would state that all blocks are durable.
    damage_block(copy, 2, 0xFF)
    with Reader(copy, mode=RecoveryMode.POINT_IN_TIME) as reader:
        assert [frame.seq for frame in reader.frames()] == [0, 1]
        assert [frame.seq for frame in reader.follow(stop=lambda: True)] == [0, 1]
