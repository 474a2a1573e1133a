"""Compaction in place: after any crash the path holds the old or the new journal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from journal import Frame, JournalError, JournalLocked, NotAJournal, OptionError, Reader, Writer
from journal.compaction import CompactionResult, RetentionPolicy, compact, compact_in_place
from journal.log import RollPolicy
from tests.rigs import needs
from tests.rigs.faults import Fault
from tests.rigs.fused import Served
from tests.support.command_line import run_inside
from tests.support.compaction_histories import START, frames_of, history, write_story

Count = Callable[[int], None]
Compacts = Callable[[Path], object]
STORY = history(5, 200, 15)
CALLS_MAX = 2000


def directory(path: Path) -> Path:
    """Write a journal of many small segments."""
    clock = iter(range(START, 1 << 62)).__next__
    with Writer(path, roll=RollPolicy(1 << 11), clock=clock) as writer:
        for tag, payload, _ in STORY:
            writer.append_frame(tag, payload)
            writer.flush()
    return path


def file(path: Path) -> Path:
    """Write a journal of one file."""
    return write_story(path, STORY)


SHAPES = [file, directory]


def names_in(path: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(entry.name for entry in path.iterdir())


@pytest.mark.parametrize("shape", SHAPES)
def test_it_becomes_what_a_compaction_elsewhere_gives(
    tmp_path: Path, shape: Callable[[Path], Path]
) -> None:
    path = shape(tmp_path / "journal")
    path.chmod(0o750)
    wanted = compact(path, tmp_path / "target", policy=RetentionPolicy(keep_last=2))
    assert compact_in_place(path, policy=RetentionPolicy(keep_last=2), dry_run=True) == wanted
    old = frames_of(path)
    assert compact_in_place(path, policy=RetentionPolicy(keep_last=2)) == wanted
    assert path.is_dir() == (shape is directory)
    assert frames_of(path) == frames_of(tmp_path / "target")
    assert path.stat().st_mode & 0o777 == 0o750
    assert names_in(tmp_path) == ["journal", "target"]
    with Writer(path) as writer:
        assert writer.next_seq == old[-1].seq + 1
        assert writer.journal_id == wanted.journal_id
        writer.append_frame(222, b"behind")
    assert frames_of(path)[-1].payload == b"behind"


def test_who_reads_a_file_goes_on_with_the_old_one(tmp_path: Path) -> None:
    path = file(tmp_path / "journal")
    with Reader(path) as reader:
        old = frames_of(path)
        compact_in_place(path)
        assert [frame._replace(offset=0) for frame in reader.frames()] == old
    assert len(frames_of(path)) < len(old)


def test_who_reads_a_directory_is_told_to_open_it_again(tmp_path: Path) -> None:
    path = directory(tmp_path / "journal")
    with Reader(path) as reader:
        compact_in_place(path)
        with pytest.raises(NotAJournal, match="no longer contains a segment file"):
            list(reader.frames())


@pytest.mark.parametrize("shape", SHAPES)
def test_while_it_is_written_it_is_left_alone(
    tmp_path: Path, shape: Callable[[Path], Path]
) -> None:
    path = shape(tmp_path / "journal")
    with Writer(path), pytest.raises(JournalLocked, match="is being written by this process"):
        compact_in_place(path)
    assert len(frames_of(path)) == len(STORY)
    assert names_in(tmp_path) == ["journal"]


def test_where_nothing_goes_nothing_is_written(tmp_path: Path) -> None:
    path = file(tmp_path / "journal")
    compact_in_place(path)
    before = path.stat()
    found = compact_in_place(path)
    assert found.events == found.kept_events
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_through_a_link_the_journal_itself_is_compacted(tmp_path: Path) -> None:
    path = file(tmp_path / "journal")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link"
    link.symlink_to(path)
    found = compact_in_place(link)
    assert link.is_symlink()
    assert len(frames_of(path)) == found.kept_events < found.events
    assert names_in(tmp_path / "folder") == ["link"]


def test_a_directory_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    path = directory(tmp_path / "journal")
    (path / "notes").touch()
    with pytest.raises(OptionError, match="contains 'notes', which is not a segment"):
        compact_in_place(path)
    assert len(frames_of(path)) == len(STORY)


def test_what_a_crash_left_of_a_segment_goes_with_the_old_ones(tmp_path: Path) -> None:
    path = directory(tmp_path / "journal")
    (path / ".0000000f.journal.0123456789ab.tmp").write_bytes(b"a header")
    compact_in_place(path)
    assert names_in(tmp_path) == ["journal"]
    assert all(not name.startswith(".") for name in names_in(path))


@pytest.mark.parametrize("shape", SHAPES)
def test_whoever_interrupts_it_finds_the_old_one_and_nothing_else(
    tmp_path: Path, shape: Callable[[Path], Path]
) -> None:
    path = shape(tmp_path / "journal")
    reports = 0

    def count(what: str, done: int, size: int) -> None:
        nonlocal reports
        reports += 1

    compact_in_place(path, progress=count, dry_run=True)
    assert reports > 2
    for last in range(0, reports, reports // 6 + 1):
        left = iter(range(last))

        def interrupt(what: str, done: int, size: int, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compact_in_place(path, progress=interrupt)
        assert len(frames_of(path)) == len(STORY)
        assert names_in(tmp_path) == ["journal"]


@needs.mark("Giving files away takes root." if os.geteuid() else "")
def test_it_belongs_to_whom_the_old_one_did(tmp_path: Path) -> None:
    for shape in SHAPES:
        path = shape(tmp_path / shape.__name__)
        os.chown(path, 12345, 54321)
        compact_in_place(path)
        for file in (path, *(path.iterdir() if path.is_dir() else ())):
            found = file.stat()
            assert (found.st_uid, found.st_gid) == (12345, 54321)


def test_what_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no journal " * 99)
    with pytest.raises(JournalError):
        compact_in_place(tmp_path / "text")
    with pytest.raises(JournalError, match="is neither a regular file nor a directory"):
        compact_in_place("/dev/null")
    with pytest.raises(FileNotFoundError):
        compact_in_place(tmp_path / "nothing")
    assert (tmp_path / "text").read_bytes() == b"no journal " * 99
    assert names_in(tmp_path) == ["text"]


# -- crashes -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("tests.rigs.faultfs", tmp_path_factory.mktemp("faultfs") / "mount") as served:
        yield served


def begin(served: Served, source: Path) -> Path:
    """Return a durable journal on a new disk."""
    served.ask("begin", faults=(), size_max=0, calls=0)
    path = served.mount_point / "journal"
    shutil.copy(source, path)
    for name in (path, served.mount_point):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return path


def cut_at(served: Served, calls: int, compacts: Compacts) -> bool:
    """Cut the power at one call of the operation. Return whether it had finished before."""
    path = served.mount_point / "journal"
    served.ask("arm", faults=(), calls=calls)
    try:
        compacts(path)
    except (JournalError, OSError):
        return False
    return True


def read_journals(served: Served) -> dict[str, list[Frame]]:
    """Return the contents of all named journals."""
    names = [name for name in names_in(served.mount_point) if not name.startswith(".")]
    return {name: frames_of(served.mount_point / name) for name in names}


def cut_at_each(served: Served, folder: Path, step: int, compacts: Compacts) -> int:
    """Cut the power at each ``step``-th call. Return the number of crash states."""
    source = file(folder / "source")
    old = {"journal": frames_of(source)}
    (folder / "done").mkdir()
    compacts(file(folder / "done" / "journal"))
    new = {name: frames_of(folder / "done" / name) for name in names_in(folder / "done")}
    states = 0
    for calls in range(1, CALLS_MAX, step):
        begin(served, source)
        has_ended = cut_at(served, calls, compacts)
        served.ask("cut")
        for seed in range(4):
            served.ask("crash", seed=seed)
            is_known = read_journals(served) in ([new] if has_ended else [old, new])
            assert is_known, f"at call {calls}, in state {seed}"
            states += 1
        if has_ended:
            assert states > 40, "the power has to be cut before its work is done, too"
            return states
    raise AssertionError(f"it has not come to its end after {CALLS_MAX} calls")


def beside(path: Path) -> CompactionResult:
    """Compact a journal to another path."""
    return compact(path, path.with_name("target"))


def filter_in_place(path: Path) -> None:
    """Replace a journal by its events of one group."""
    done = run_inside("filter", path, "--in-place", "--group", "files", at=path.parent.parent)
    if done.returncode:
        raise OSError(done.stderr.decode())


@needs.mark(needs.why_no_fuse())
@pytest.mark.parametrize("compacts", [compact_in_place, beside, filter_in_place])
def test_a_power_cut_at_some_calls_leaves_the_old_or_the_new(
    served: Served, tmp_path: Path, compacts: Compacts, count_states: Count
) -> None:
    count_states(cut_at_each(served, tmp_path, 7, compacts))


@pytest.mark.deep
@needs.mark(needs.why_no_fuse())
@pytest.mark.parametrize("compacts", [compact_in_place, beside, filter_in_place])
def test_a_power_cut_at_any_call_leaves_the_old_or_the_new(
    served: Served, tmp_path: Path, compacts: Compacts, count_states: Count
) -> None:
    count_states(cut_at_each(served, tmp_path, 1, compacts))


@needs.mark(needs.why_no_fuse())
def test_a_disk_that_fails_leaves_the_old_or_the_new(served: Served, tmp_path: Path) -> None:
    source = file(tmp_path / "source")
    old = frames_of(source)
    compact(source, tmp_path / "target")
    new = frames_of(tmp_path / "target")
    failures = 0
    for call in ("write", "sync", "sync_directory", "link", "open"):
        for nth in (1, 2, 3):
            path = begin(served, source)
            served.ask("arm", faults=(Fault(call, nth),), calls=0)
            try:
                compact_in_place(path)
                wanted = new
            except (JournalError, OSError) as error:
                wanted = new if "a power cut may undo it" in str(error) else old
                failures += 1
            assert frames_of(path) == wanted, f"{call} {nth}"
            others = [name for name in names_in(served.mount_point) if name != "journal"]
            assert all(name.startswith(".") for name in others), f"{call} {nth}"
    assert failures > 5
