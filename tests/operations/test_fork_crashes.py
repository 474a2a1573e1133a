"""Forks and failures: a power cut, a failing disk, a parent that fails over, no hard links."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import journal
from journal.errors import JournalError, StorageError
from journal.log import CommitPolicy, RollPolicy
from journal.log.fork_search import find_fork_place
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.operations.fork import open_fork
from tests.rigs import needs
from tests.rigs.faults import Fault
from tests.rigs.fused import Served
from tests.support.plain_reader import reading

Count = Callable[[int], None]
Row = tuple[int, bytes]
CALLS_MAX = 2000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("tests.rigs.faultfs", tmp_path_factory.mktemp("faultfs") / "mount") as served:
        yield served


def payload(seq: int) -> bytes:
    return b"event %d " % seq * 40


def rows_of(path: Path) -> list[Row]:
    with Reader(path) as reader:
        return [(frame.seq, frame.payload) for frame in reader.frames()]


def is_child(path: Path, at: int) -> bool:
    """Return whether a journal has all events up to ``at`` and one more, and can be continued."""
    rows = rows_of(path)
    with Writer(path) as writer:
        writer.append_frame(224, b"own")
    assert rows_of(path)[: len(rows)] == rows
    return rows[:-1] == [(seq, payload(seq)) for seq in range(at + 1)]


def write_unsynced(path: Path, roll: RollPolicy | None) -> Writer:
    """Write a journal whose last events are written, but not synced."""
    writer = Writer(path, roll=roll)
    for seq in range(40):
        writer.append_frame(224, payload(seq))
        if seq % 5 == 4:
            writer.sync() if seq < 25 else writer.flush()
    writer.flush()
    return writer


def cut_at(served: Served, calls: int, roll: RollPolicy | None, at: int) -> bool:
    """Fork an unsynced journal, and cut the power at one call. Return whether the fork was made."""
    served.ask("begin", faults=(), size_max=0, calls=0)
    folder = served.mount_point
    writer = write_unsynced(folder / "parent", roll)
    served.ask("arm", faults=(), calls=calls)
    try:
        journal.fork(folder / "parent", folder / "child", at=at)
    except (JournalError, OSError):
        is_made = False
    else:
        is_made = True
    served.ask("cut")
    with pytest.raises(JournalError):
        writer.close()
    return is_made


def cut_at_each(served: Served, roll: RollPolicy | None, at: int, step: int, seeds: int) -> int:
    """Cut the power at each ``step``-th call of a fork. Return the number of crash states."""
    states = whole = 0
    for calls in range(1, CALLS_MAX, step):
        is_made = cut_at(served, calls, roll, at)
        for seed in range(seeds):
            served.ask("crash", seed=seed)
            child = served.mount_point / "child"
            states += 1
            if is_made or child.exists():
                assert is_child(child, at), f"at call {calls}, in state {seed}"
                whole += 1
        if is_made:
            assert whole < states, "the power has to be cut before the fork is made, too"
            return states
    raise AssertionError(f"it has not come to its end after {CALLS_MAX} calls")


@needs.mark(needs.why_no_fuse())
def test_a_power_cut_leaves_a_whole_child_or_none(served: Served, count_states: Count) -> None:
    count_states(cut_at_each(served, None, 37, 5, 2))


@pytest.mark.deep
@needs.mark(needs.why_no_fuse())
@pytest.mark.parametrize(("roll", "step"), [(None, 1), (RollPolicy(1 << 11), 5)])
@pytest.mark.parametrize("at", [24, 37])
def test_a_power_cut_at_any_call_leaves_a_whole_child_or_none(
    served: Served, roll: RollPolicy | None, step: int, at: int, count_states: Count
) -> None:
    count_states(cut_at_each(served, roll, at, step, 5))


@needs.mark(needs.why_no_fuse())
def test_the_first_sync_of_a_hasty_child_makes_all_of_it_durable(served: Served) -> None:
    served.ask("begin", faults=(), size_max=0, calls=0)
    folder = served.mount_point
    parent = write_unsynced(folder / "parent", None)
    place = find_fork_place(folder / "parent", 37, durable=False)
    child = open_fork(place, folder / "child", CommitPolicy.EXPLICIT, reseed=False)
    child.publish()
    for number in range(3):
        child.append_frame(224, b"own %d" % number)
        child.sync()
    served.ask("cut")
    for writer in (parent, child):
        with suppress(JournalError):  # Only the parent has unsynced events.
            writer.close()
    for seed in range(20):
        served.ask("crash", seed=seed)
        rows = rows_of(folder / "child")
        assert rows[:38] == [(seq, payload(seq)) for seq in range(38)]
        assert rows[39:] == [(39 + number, b"own %d" % number) for number in range(3)]


def test_a_hasty_child_that_is_not_synced_syncs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write_unsynced(tmp_path / "parent", None):
        monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
        monkeypatch.setattr(os, "fdatasync", refusing(errno.EIO))
        place = find_fork_place(tmp_path / "parent", 37, durable=False)
        with open_fork(place, tmp_path / "child", CommitPolicy.NONE, reseed=False) as child:
            child.publish()
            child.append_frame(224, b"own")
        monkeypatch.undo()
    assert rows_of(tmp_path / "child")[39:] == [(39, b"own")]


@needs.mark(needs.why_no_fuse())
def test_a_disk_that_fails_leaves_a_whole_child_or_none(served: Served) -> None:
    failures = 0
    for call in ("write", "sync", "sync_directory", "link", "open"):
        for nth in (1, 2, 3):
            served.ask("begin", faults=(), size_max=0, calls=0)
            folder = served.mount_point
            with write_unsynced(folder / "parent", None) as writer:
                writer.sync()  # A sync that fails here would be reported to this sync alone.
                served.ask("arm", faults=(Fault(call, nth),), calls=0)
                try:
                    journal.fork(folder / "parent", folder / "child", at=37)
                    is_made = True
                except OSError:
                    failures += 1
                    is_made = False  # The parent cannot be opened.
                except StorageError:
                    failures += 1
                    is_made = (folder / "child").exists()  # Its name may not be durable.
                assert not is_made or is_child(folder / "child", 37), f"{call} {nth}"
                assert not list(folder.glob(".*")), f"{call} {nth}"
                served.ask("arm", faults=(), calls=0)
            assert rows_of(folder / "parent") == [(seq, payload(seq)) for seq in range(40)]
    assert failures > 5


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 9)])
def test_a_parent_that_fails_over_keeps_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, roll: RollPolicy | None
) -> None:
    """It writes its last blocks again, linked to the block before the one that a child shares."""
    with write_unsynced(tmp_path / "parent", roll) as writer:
        for at in (29, 31, 39):
            journal.fork(tmp_path / "parent", tmp_path / f"child{at}", at=at)
        sync = os.fdatasync
        failing = iter([True])

        def fail_once(descriptor: int) -> None:
            if next(failing, False):
                raise OSError(errno.EIO, "injected")
            sync(descriptor)

        monkeypatch.setattr(os, "fdatasync", fail_once)
        writer.sync()
        assert next(failing, "used") == "used"
        for seq in range(40, 60):
            writer.append_frame(224, payload(seq))
            writer.sync()
    assert rows_of(tmp_path / "parent") == [(seq, payload(seq)) for seq in range(60)]
    for at in (29, 31, 39):
        assert is_child(tmp_path / f"child{at}", at)
        with Reader(tmp_path / f"child{at}") as reader:
            assert list(reader.verify(decode=False)) == []
        files = sorted((tmp_path / f"child{at}").iterdir())
        plain = reading(*[file.read_bytes() for file in files])
        assert [row.seq for row in plain.rows] == list(range(at + 3))
        assert plain.damage == []


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOENT])
def test_where_no_link_is_possible_the_needed_bytes_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with write_unsynced(tmp_path / "parent", RollPolicy(1 << 9)):
        pass
    count = len(list((tmp_path / "parent").iterdir()))
    refuse_links(monkeypatch, code, after=1)
    made = journal.fork(tmp_path / "parent", tmp_path / "child", at=37)
    assert (made.shared_files, made.is_copied) == (1, True)
    assert is_child(tmp_path / "child", 37)
    assert len(list((tmp_path / "child").iterdir())) <= count + 1
    monkeypatch.setattr(os, "copy_file_range", refusing(errno.EXDEV))
    made = journal.fork(tmp_path / "parent", tmp_path / "other", at=12)
    assert (made.shared_files, made.is_copied) == (0, True)
    assert is_child(tmp_path / "other", 12)


def test_a_full_disk_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write_unsynced(tmp_path / "parent", None):
        pass
    for name in ("link", "posix_fallocate", "pwrite", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refusing(errno.ENOSPC))
            with pytest.raises(StorageError, match="no space left"):
                journal.fork(tmp_path / "parent", tmp_path / "child", at=37)
        assert [path.name for path in tmp_path.iterdir()] == ["parent"], name
    journal.fork(tmp_path / "parent", tmp_path / "child", at=37)


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int, after: int) -> None:
    """Let only the first ``after`` hard links succeed."""
    left = iter(range(after))
    link, refuse = os.link, refusing(code)

    def link_some(*arguments: object, **options: object) -> None:
        call = link if next(left, None) is not None else refuse
        call(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", link_some)


def refusing(code: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


def test_readers_and_forks_beside_a_live_writer_see_whole_events(tmp_path: Path) -> None:
    chooser = random.Random(3)
    with Writer(tmp_path / "parent") as writer:
        writer.append_frame(224, payload(0))
        writer.sync()
        for round_number in range(12):
            for _ in range(chooser.randrange(1, 9)):
                writer.append_frame(224, payload(writer.next_seq))
            chooser.choice((writer.flush, writer.sync))()
            at = chooser.randrange(writer.next_seq)
            assert journal.fork(tmp_path / "parent", tmp_path / f"{round_number}", at=at).seq == at
            if chooser.random() < 0.5:
                assert is_child(tmp_path / f"{round_number}", at)
    for child in tmp_path.iterdir():
        rows = rows_of(child)
        assert [seq for seq, _ in rows] == list(range(len(rows)))
