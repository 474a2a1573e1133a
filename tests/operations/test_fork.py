"""Forks: journals that share the beginning of another journal, and continue on their own."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal.errors import JournalError, NotResumable, OptionError, WrongKey
from journal.events.process import ParentLink
from journal.format.seal_key import SealKey
from journal.log import RecoveryMode, RollPolicy, using_key
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.query import Query
from tests.support.journals import Story, read_rows

KEY = SealKey(bytes(range(32)))
STORY = [(224 + i % 3, b"event %d" % i * (i % 7)) for i in range(60)]
TINY = RollPolicy(size_bytes=400)


def write(path: Path, story: Story, roll: RollPolicy | None = None) -> Path:
    """Write events in synced blocks of 1 to 5 events."""
    with Writer(path, roll=roll) as writer:
        for i, (tag, payload) in enumerate(story):
            writer.append_frame(tag, payload)
            if i % 5 == i // 5 % 5:
                writer.sync()
    return path


def append(path: Path, *payloads: bytes) -> None:
    with Writer(path) as writer:
        for payload in payloads:
            writer.append_frame(230, payload)


def rows_of(path: Path) -> list[tuple[int, int, bytes]]:
    with Reader(path) as reader:
        return [(frame.seq, frame.tag, frame.payload) for frame in reader.frames()]


def check_child(child: Path, parent_rows: list[tuple[int, int, bytes]], at: int) -> None:
    """Check a new child: the events of its parent up to ``at``, and a ParentLink."""
    expected = [row for row in parent_rows if row[0] <= at]
    with Reader(child) as reader:
        *rows, link = [(frame.seq, frame.tag, frame.payload) for frame in reader.frames()]
        assert rows == expected
        assert link[:2] == (at + 1, ParentLink.tag)
        assert list(reader.verify(decode=False)) == []
        assert [frame.seq for frame in reader.backward()][::-1] == [row[0] for row in [*rows, link]]
        for seq, tag, payload in [expected[0], expected[-1], link]:
            assert reader.frame(seq)[:3] == (seq, tag, payload)


def make_file(folder: Path) -> Path:
    return write(folder / "parent", STORY)


def make_directory(folder: Path) -> Path:
    return write(folder / "parent", STORY, TINY)


def make_filtered(folder: Path) -> Path:
    write(folder / "whole", STORY)
    journal.filter(folder / "whole", folder / "parent", Query(tags=frozenset({224, 226})))
    return folder / "parent"


def make_fork(folder: Path) -> Path:
    write(folder / "whole", STORY[:30], TINY)
    journal.fork(folder / "whole", folder / "parent", at=17)
    append(folder / "parent", *(payload for _, payload in STORY[30:]))
    return folder / "parent"


def make_joined(folder: Path) -> Path:
    write(folder / "one", STORY[:20])
    write(folder / "two", STORY[20:])
    (folder / "parent").write_bytes((folder / "one").read_bytes() + (folder / "two").read_bytes())
    return folder / "parent"


def make_torn(folder: Path) -> Path:
    """Return a journal that its writer continued after a torn block."""
    write(folder / "parent", STORY[:30])
    with (folder / "parent").open("ab") as file:
        file.write(b"\x89JNLBLK\n torn")
    return write(folder / "parent", STORY[30:])


PARENTS = [make_file, make_directory, make_filtered, make_fork, make_joined, make_torn]


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.deep)])
@pytest.mark.parametrize("make", PARENTS)
def test_a_child_has_the_events_of_its_parent_up_to_each_moment(
    tmp_path: Path, make: Callable[[Path], Path], step: int
) -> None:
    parent = make(tmp_path)
    rows = rows_of(parent)
    for seq in [row[0] for row in rows][::step]:
        child = tmp_path / f"child{seq}"
        made = journal.fork(parent, child, at=seq)
        assert (made.path, made.seq) == (child, seq)
        check_child(child, rows, seq)
        append(child, b"own")
        assert rows_of(child)[-1] == (seq + 2, 230, b"own")
    assert rows_of(parent) == rows
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("make", [make_file, make_directory, make_filtered, make_fork, make_torn])
def test_a_child_shares_the_files_of_its_parent(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    parent = make(tmp_path)
    at = rows_of(parent)[-1][0]
    made = journal.fork(parent, tmp_path / "child", at=at)
    files = sorted((tmp_path / "child").iterdir())
    assert (made.shared_files, made.is_copied) == (len(files) - 1, False)
    own = {file.stat().st_ino for file in (parent.iterdir() if parent.is_dir() else [parent])}
    assert {file.stat().st_ino for file in files[:-1]} <= own
    assert files[-1].stat().st_size < 1000


@pytest.mark.parametrize("make", [make_file, make_directory, make_torn])
def test_a_parent_that_goes_on_does_not_change_its_children(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    parent = make(tmp_path)
    rows = rows_of(parent)
    children = {at: tmp_path / f"child{at}" for at in (31, 33, rows[-1][0])}
    for at, child in children.items():
        journal.fork(parent, child, at=at)
    write(parent, STORY, TINY if parent.is_dir() else None)
    for at, child in children.items():
        check_child(child, rows, at)
    journal.compact_in_place(parent)
    assert len(rows_of(parent)) == 2 * len(STORY)
    journal.salvage(parent, tmp_path / "salvaged")
    for file in [*parent.iterdir()] if parent.is_dir() else [parent]:
        file.unlink()
    for at, child in children.items():
        check_child(child, rows, at)


def test_a_parent_and_its_children_are_written_at_the_same_time(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    with Writer(parent) as writer:
        for tag, payload in STORY:
            writer.append_frame(tag, payload)
        writer.sync()
        journal.fork(parent, tmp_path / "child", at=40, count=2)
        with Writer(tmp_path / "child-1") as one, Writer(tmp_path / "child-2") as two:
            for i in range(10):
                for each in (writer, one, two):
                    each.append_frame(230, b"%d" % i)
                    each.sync()
            with pytest.raises(journal.JournalLocked):
                Writer(tmp_path / "child-1")
            with pytest.raises(journal.JournalLocked):
                Writer(parent)
    for path, count in ((parent, 60), (tmp_path / "child-1", 42), (tmp_path / "child-2", 42)):
        assert [payload for _, payload in read_rows(path)[count:]] == [b"%d" % i for i in range(10)]


def test_a_journal_of_too_many_files_is_refused_by_name(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    with Writer(parent, roll=RollPolicy(1)) as writer:
        for _ in range(60):
            writer.append_frame(224, b"x")
            writer.sync()
    count = len(list(parent.iterdir())) - 1  # The last one has no event yet.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        with pytest.raises(OptionError, match=f"has {count} files to share, more than"):
            journal.fork(parent, tmp_path / "child", at=59)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]


def test_children_get_numbers_before_their_suffix(tmp_path: Path) -> None:
    parent = make_file(tmp_path)
    made = journal.fork(parent, tmp_path / "a.journal", at=3, count=3)
    assert [one.path.name for one in made] == ["a-1.journal", "a-2.journal", "a-3.journal"]
    assert len({one.parent for one in made}) == 1


def test_an_event_that_does_not_exist_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    parent = make_filtered(tmp_path)
    before = sorted(tmp_path.iterdir())
    for at in (1, 60, 10**9):
        with pytest.raises(OptionError, match=f"no event {at} to fork at"):
            journal.fork(parent, tmp_path / "child", at=at)
    with pytest.raises(NotResumable, match="no resumable snapshot: choose the event to fork at"):
        journal.fork(parent, tmp_path / "child")
    assert sorted(tmp_path.iterdir()) == before


def test_no_child_replaces_a_file(tmp_path: Path) -> None:
    parent = make_file(tmp_path)
    (tmp_path / "child-2").write_bytes(b"mine")
    with pytest.raises(OptionError, match="already exists"):
        journal.fork(parent, tmp_path / "child", at=3, count=2)
    assert not (tmp_path / "child-1").exists()
    assert (tmp_path / "child-2").read_bytes() == b"mine"


def test_no_child_is_made_inside_its_parent(tmp_path: Path) -> None:
    parent = make_directory(tmp_path)
    with pytest.raises(OptionError, match="would be inside"):
        journal.fork(parent, parent / "child", at=3)


@pytest.mark.parametrize("roll", [None, TINY])
def test_a_sealed_journal_has_sealed_children(tmp_path: Path, roll: RollPolicy | None) -> None:
    parent = tmp_path / "parent"
    with using_key(KEY):
        write(parent, STORY, roll)
        rows = rows_of(parent)
        for at in (0, 23, 56):
            made = journal.fork(parent, tmp_path / f"child{at}", at=at)
            assert not made.is_copied
            check_child(made.path, rows, at)
            append(made.path, b"own")
            check = journal.fork(made.path, tmp_path / f"grandchild{at}", at=at + 2)
            assert rows_of(check.path)[:-1] == rows_of(made.path)
        write(parent, STORY, roll)
        check_child_without_its_own = rows_of(tmp_path / "child56")
        assert check_child_without_its_own[:57] == rows[:57]
    with pytest.raises(WrongKey):
        journal.fork(parent, tmp_path / "none", at=3)
    assert not (tmp_path / "none").exists()


def test_verify_finds_a_file_that_is_missing_or_was_replaced(tmp_path: Path) -> None:
    parent = make_directory(tmp_path)
    journal.fork(parent, tmp_path / "child", at=50)
    journal.fork(parent, tmp_path / "other", at=20)
    files = sorted((tmp_path / "child").iterdir())
    other = write(tmp_path / "strange", STORY)
    for file in files[:-1]:
        file.rename(tmp_path / "away")
        assert is_refused(tmp_path / "child"), file.name
        os.link(other, file)
        assert is_refused(tmp_path / "child"), file.name
        file.unlink()
        (tmp_path / "away").rename(file)
        assert not is_refused(tmp_path / "child")
    last_of_other = sorted((tmp_path / "other").iterdir())[-1]
    files[-1].unlink()
    os.link(last_of_other, files[-1])
    assert is_refused(tmp_path / "child")


def is_refused(path: Path) -> bool:
    """Return whether verification finds a defect, and no writer continues the journal."""
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        findings = list(reader.verify(decode=False))
    try:
        Writer(path).close()
    except JournalError:
        return bool(findings)
    assert not findings
    return False
