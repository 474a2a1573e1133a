"""A follower reports that its journal was replaced, cut, removed or renamed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from journal import (
    FormatError,
    Frame,
    JournalChanged,
    JournalError,
    Reader,
    Writer,
    compact_in_place,
    events,
)
from journal.fs import file_watcher
from journal.log import RecoveryMode, RollPolicy
from tests.support.command_line import read_line, start_tool
from tests.support.deadlines import DEADLINE_SECONDS

ROLLS = pytest.mark.parametrize("roll", [None, RollPolicy(1 << 20)], ids=["file", "directory"])
MODES = pytest.mark.parametrize(
    "mode", [RecoveryMode.TOLERATE_TAIL, RecoveryMode.POINT_IN_TIME, RecoveryMode.SALVAGE]
)
COUNT = 200


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A change that the kernel does not announce is found by the next look.
    monkeypatch.setattr(file_watcher, "_RECHECK_SECONDS", 0.05)
    return tmp_path / "log"


def write(path: Path, count: int, roll: RollPolicy | None = None, word: bytes = b"first") -> None:
    with Writer(path, roll=roll) as writer:
        for number in range(count):
            writer.append_frame(200, word + b"%d" % number + os.urandom(20))
            if number % 10 == 9:
                writer.sync()


def last_file(path: Path) -> Path:
    return max(path.glob("*.journal")) if path.is_dir() else path


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path, share: float = 0.3) -> None:
    file = last_file(path)
    os.truncate(file, int(file.stat().st_size * share))


def follow_across(
    path: Path, change: Callable[[], object], mode: RecoveryMode = RecoveryMode.TOLERATE_TAIL
) -> tuple[list[Frame], JournalError | None]:
    """Follow a journal, change it when all of it was read, and return the frames and the error."""
    looks = 0
    found: list[Frame] = []

    def stop() -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            change()
        return looks > 3

    with Reader(path, mode=mode) as reader:
        try:
            found.extend(reader.follow(stop=stop, timeout_seconds=DEADLINE_SECONDS))
        except JournalError as error:
            return found, error
    return found, None


@MODES
@ROLLS
@pytest.mark.parametrize("others", [0, 3, 30, 3 * COUNT])
def test_a_journal_that_is_cut_is_reported(
    path: Path, roll: RollPolicy | None, mode: RecoveryMode, others: int
) -> None:
    write(path, COUNT, roll)

    def change() -> None:
        cut(path)
        if others:
            write(path, others, roll, b"second")

    found, error = follow_across(path, change, mode)
    assert len(found) == COUNT
    assert all(frame.payload.startswith(b"first") for frame in found)
    assert isinstance(error, JournalChanged), error
    assert error.next_seq == COUNT
    assert str(error) == (
        f"{path} was cut, replaced or written anew, after its events below sequence number "
        f"{COUNT} were read"
    )


@ROLLS
@pytest.mark.parametrize("kept", [0, 1, 128, 200])
def test_a_journal_that_is_cut_to_almost_nothing_is_reported(
    path: Path, roll: RollPolicy | None, kept: int
) -> None:
    write(path, 20, roll)
    found, error = follow_across(path, lambda: os.truncate(last_file(path), kept))
    assert len(found) == 20
    assert isinstance(error, (JournalChanged, FormatError))


@ROLLS
def test_every_cut_of_the_last_block_is_reported(path: Path, roll: RollPolicy | None) -> None:
    write(path, 20, roll)
    file = last_file(path)
    with Reader(path) as reader:
        start = list(reader.blocks())[-1].offset
    whole = file.read_bytes()
    for size in range(start, len(whole) - 112, 17):  # The block at the end is a marker.
        file.write_bytes(whole)
        found, error = follow_across(path, lambda size=size: os.truncate(file, size))  # type: ignore[misc]
        assert len(found) == 20
        assert isinstance(error, JournalChanged), size


@MODES
@ROLLS
def test_another_journal_at_the_path_is_reported(
    path: Path, roll: RollPolicy | None, mode: RecoveryMode
) -> None:
    write(path, 3, roll)

    def change() -> None:
        remove(path)
        write(path, 6, roll, b"second")

    found, error = follow_across(path, change, mode)
    assert [frame.seq for frame in found] == [0, 1, 2]
    assert isinstance(error, JournalChanged)
    assert f"{path} was replaced by another journal" in str(error)


@ROLLS
@pytest.mark.parametrize("change", [remove, lambda path: path.rename(path.with_name("log.1"))])
def test_a_journal_that_is_removed_or_renamed_is_reported(
    path: Path, roll: RollPolicy | None, change: Callable[[Path], object]
) -> None:
    write(path, 3, roll)
    found, error = follow_across(path, lambda: change(path))
    assert [frame.seq for frame in found] == [0, 1, 2]
    assert isinstance(error, JournalChanged)
    assert str(error).startswith(f"{path} was removed or renamed")


def test_events_written_before_a_removal_are_read_first(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_frame(1, b"0")
        writer.flush()

        def change() -> None:
            writer.append_frame(1, b"1")
            writer.sync()
            path.rename(path.with_name("log.1"))

        found, error = follow_across(path, change)
    assert [frame.seq for frame in found] == [0, 1]
    assert isinstance(error, JournalChanged)


@ROLLS
def test_an_older_copy_at_the_path_is_reported(path: Path, roll: RollPolicy | None) -> None:
    write(path, 20, roll)
    copy = path.with_name("copy")
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    write(path, 20, roll)
    for others in (0, 5, 60):
        older = path.with_name(f"older{others}")
        shutil.copytree(copy, older) if copy.is_dir() else shutil.copy(copy, older)
        current = path.with_name(f"current{others}")
        shutil.copytree(path, current) if path.is_dir() else shutil.copy(path, current)
        write(older, others, roll, b"second")

        def change(older: Path = older, current: Path = current) -> None:
            remove(current)
            older.rename(current)

        found, error = follow_across(current, change)
        assert len(found) == 40
        assert isinstance(error, JournalChanged), others


@ROLLS
def test_an_equal_copy_at_the_path_is_followed(path: Path, roll: RollPolicy | None) -> None:
    write(path, 20, roll)
    copy = path.with_name("copy")
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    write(copy, 5, roll)

    def change() -> None:
        remove(path)
        copy.rename(path)

    found, error = follow_across(path, change)
    assert ([frame.seq for frame in found], error) == (list(range(25)), None)


@ROLLS
def test_a_compacted_journal_is_followed(path: Path, roll: RollPolicy | None) -> None:
    with Writer(path, roll=roll) as writer:
        for number in range(40):
            data = bytes([number]) * 4096
            writer.append(events.memory.UpdateMemoryRegion(start=0, end=4096, data=data))
            trigger = events.snapshots.Trigger.EXPLICIT
            writer.append(events.snapshots.Snapshot(when=number, trigger=trigger))

    def change() -> None:
        assert not compact_in_place(path).is_unchanged
        with Writer(path) as writer:
            writer.append_frame(200, b"later")

    found, error = follow_across(path, change)
    assert error is None
    assert [frame.seq for frame in found] == list(range(81))


def test_a_foreign_segment_is_reported(path: Path) -> None:
    roll = RollPolicy(2000)
    write(path, 60, roll)
    write(path.with_name("other"), 60, roll)
    foreign = path.with_name("other") / "0000000000.journal"
    found, error = follow_across(path, lambda: shutil.copy(foreign, path / "0000000099.journal"))
    assert len(found) == 60
    assert isinstance(error, FormatError)
    assert "not the first of its directory" in str(error)


@pytest.fixture(params=[["tail", "-f"], ["inspect", "--follow"]], ids=["tail", "inspect"])
def command(request: pytest.FixtureRequest) -> list[str]:
    arguments: list[str] = request.param
    return arguments


@pytest.mark.parametrize("change", ["replaced", "removed", "cut"])
def test_a_command_ends_with_a_sentence(path: Path, command: list[str], change: str) -> None:
    write(path, 3)
    with start_tool(path.parent, *command, path.name) as process:
        for _ in range(3):
            assert b"first" in read_line(process)
        write(path, 1, word=b"fourth")
        assert b"fourth" in read_line(process)  # The command follows.
        if change == "cut":
            cut(path)
        else:
            path.unlink()
        if change == "replaced":
            os.link(make_other(path.with_name("other")), path)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert (out, process.returncode) == (b"", 1)
    assert err.startswith(b"journaltool: error: log was ")
    assert err.count(b"\n") == 1
    assert b"after its events below sequence number 4 were read" in err


def make_other(path: Path) -> Path:
    write(path, 6, word=b"second")
    return path
