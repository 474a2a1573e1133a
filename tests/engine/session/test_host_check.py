"""A resume compares the host with the recording before the guest continues."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import journal
from journal.engine import Grants, HostDiffers, check_resume
from journal.engine.session.stdin_check import COMPARED_SIZE_MAX, read_consumed
from journal.engine.wasi.filesystem.reopening import RecordedTimes, find_names
from journal.events.inputs import StreamRead
from journal.events.snapshots import Trigger
from journal.format.frame import Frame
from journal.snapshots.catalog import SnapshotInfo
from tests.support.command_line import run_tool
from tests.support.deadlines import wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import events_of, frames_of, keep_first, rewrite
from tests.support.wasix_sockets import resume_remote
from tests.support.wat import module

READ_AND_WRITE = 0x66
CREATE, TRUNCATE = 1, 8
MINUTE = 60_000_000
LINES = b"".join(b"line %d\n" % number for number in range(2000))


# -- standard input --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a guest that has read about half of a file, and was killed."""
    folder = tmp_path_factory.mktemp("half")
    (folder / "input").write_bytes(LINES)
    with (folder / "input").open("rb") as stdin:
        path = folder / "j"
        with journal.record(guest("cat"), path, args=["cat", "1000"], stdin=stdin) as recorder:
            assert wait_for_end(recorder).code == 0
    reads = [at for at, event in enumerate(events_of(path)) if isinstance(event, StreamRead)]
    return rewrite(path, folder / "half.journal", keep_first(reads[len(reads) // 2] + 1))


def resume_with(journal_path: Path, stdin: bytes, folder: Path, *options: str) -> tuple[int, str]:
    """Resume a copy with a regular file as input; return the exit code and stderr."""
    copy = shutil.copy(journal_path, folder / "copy.journal")
    (folder / "other").write_bytes(stdin)
    with (folder / "other").open("rb") as file:
        done = run_tool_with_stdin(folder, file.fileno(), "resume", *options, str(copy))
    return done.returncode, done.stderr.decode()


def run_tool_with_stdin(
    folder: Path, stdin: int, *arguments: str
) -> subprocess.CompletedProcess[bytes]:
    """Run journaltool with a descriptor as standard input."""
    opened = f"/proc/{os.getpid()}/fd/{stdin}"
    wrapper = ["sh", "-c", f'exec "$@" < {opened}', "sh"]
    return run_tool(*arguments, at=folder, wrapper=wrapper)


def test_the_same_input_is_read_on_without_a_word(half_read: Path, tmp_path: Path) -> None:
    code, told = resume_with(half_read, LINES, tmp_path)
    assert (code, "standard input" in told) == (0, False)
    assert f"{len(LINES)} bytes" in told, "the guest prints how much it has read"


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        (b"", "standard input ends before byte"),
        (LINES[:3000], "standard input ends before byte"),
        (LINES.upper(), "standard input is another file: its 1024 bytes"),
        (LINES[1:], "standard input is another file: its 1024 bytes"),
    ],
    ids=["empty", "short", "edited", "shifted"],
)
def test_another_input_is_reported_or_refused(
    stdin: bytes, sentence: str, half_read: Path, tmp_path: Path
) -> None:
    before = half_read.read_bytes()
    code, told = resume_with(half_read, stdin, tmp_path, "--strict")
    assert code == 125
    assert "error: the host differs from the recording\n  " + sentence in told
    assert (tmp_path / "copy.journal").read_bytes().startswith(before), "nothing is written over"
    with journal.Reader(tmp_path / "copy.journal") as reader, journal.Reader(half_read) as old:
        assert reader.summary().events == old.summary().events, "nothing is appended"
    code, told = resume_with(half_read, stdin, tmp_path, "-q")
    assert code == 0
    assert [line for line in told.splitlines() if sentence in line], told


def test_a_device_or_a_pipe_instead_of_a_file_is_reported(half_read: Path, tmp_path: Path) -> None:
    copy = shutil.copy(half_read, tmp_path / "copy.journal")
    for stdin, word in ((os.devnull, "a device"), (None, "a pipe")):
        if stdin is None:
            done = run_tool("resume", "--strict", copy, at=tmp_path, stdin=LINES)
        else:
            with Path(stdin).open("rb") as file:
                done = run_tool_with_stdin(tmp_path, file.fileno(), "resume", "--strict", str(copy))
        assert done.returncode == 125
        assert f"standard input is {word}: the guest has read ".encode() in done.stderr


def test_the_library_refuses_another_input_by_default(half_read: Path, tmp_path: Path) -> None:
    copy = shutil.copy(half_read, tmp_path / "j")
    with pytest.raises(journal.HostMismatch, match="standard input ends before") as caught:
        journal.resume(copy, stdin=b"")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.differences) == (str(caught.value), caught.value.differences)
    with pytest.warns(HostDiffers, match="standard input ends before"):
        recorder = journal.resume(copy, stdin=b"", strict=False)
    with recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.differences == caught.value.differences


def test_a_file_that_continues_a_pipe_is_compared_with_what_the_guest_has_read(
    tmp_path: Path, cache_dir: Path
) -> None:
    with journal.record(
        guest("cat"), tmp_path / "j", args=["cat", "1000"], cache=cache_dir
    ) as recorder:
        recorder.feed(LINES[:5000])
        wait_until(lambda: len(recorder.stdout) == 5000)
    with pytest.raises(journal.HostMismatch, match="standard input is another file"):
        journal.resume(tmp_path / "j", stdin=LINES[5000:] + LINES, cache=cache_dir)
    with journal.resume(tmp_path / "j", stdin=LINES, cache=cache_dir) as recorder:
        assert wait_for_end(recorder).code == 0
        assert recorder.stdout == LINES


def test_the_last_bytes_of_the_input_come_from_the_end_of_the_journal(half_read: Path) -> None:
    reads = [event for event in events_of(half_read) if isinstance(event, StreamRead)]
    whole = b"".join(event.data for event in reads)
    with journal.Reader(half_read) as reader:
        assert read_consumed(reader) == (len(whole), whole[-COMPARED_SIZE_MAX:])


@pytest.mark.parametrize(
    ("stdin", "code", "line"),
    [
        (LINES, 0, "can be resumed: no difference was found"),
        (b"", 3, "standard input ends before byte"),
    ],
)
def test_check_resume_compares_without_running_the_guest(
    stdin: bytes, code: int, line: str, half_read: Path, tmp_path: Path
) -> None:
    before = half_read.read_bytes()
    (tmp_path / "input").write_bytes(stdin)
    for option in ((), ("--json",)):
        with (tmp_path / "input").open("rb") as file:
            done = run_tool_with_stdin(
                tmp_path, file.fileno(), "check-resume", *option, str(half_read)
            )
        assert (done.returncode, done.stderr) == (code, b"")
        if option:
            found = json.loads(done.stdout)
            assert found["exact"] is (code == 0)
            assert [one.startswith(line) for one in found["differences"]] == [True] * (code == 3)
        else:
            assert done.stdout.decode().startswith(line)
            assert done.stdout.endswith(b"\na resume starts at the start of the program\n")
            assert done.stdout.count(b"\n") == 2
    assert half_read.read_bytes() == before


def test_check_resume_says_that_a_program_has_ended_or_cannot_be_resumed(
    half_read: Path, tmp_path: Path
) -> None:
    done = run_tool("check-resume", half_read.parent / "j", at=tmp_path)
    assert (done.returncode, done.stdout.startswith(b"the program has ended")) == (0, True)
    (tmp_path / "other.wasm").write_bytes(REMOTE)
    done = run_tool("check-resume", "--module", "other.wasm", half_read, at=tmp_path)
    assert (done.returncode, b"is not the recorded module" in done.stdout) == (1, True)
    done = run_tool("check-resume", "missing", at=tmp_path)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)


# -- files of the host -----------------------------------------------------------------------------


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """The host directory of the guest."""
    folder = tmp_path / "mount"
    folder.mkdir()
    (folder / "kept").write_bytes(b"0123456789")
    return folder


def record_open(folder: Path, mount: Path, cache: Path, *names: str, flags: int = 0) -> list[int]:
    """Record a guest that has opened files in its mount, and was stopped. Return descriptors."""
    with journal.record(
        REMOTE, folder / "j", mounts=[journal.HostMount(str(mount), "/host")], cache=cache
    ) as recorder:
        remote = Remote(recorder)
        found = [open_file(remote, name, flags) for name in names]
    wait_for_file_clock(mount)
    return found


def granting(directory: Path) -> Grants:
    """Return grants of a directory for the mount of the guest."""
    return Grants(directories=[journal.HostMount(str(directory), "/host")])


def wait_for_file_clock(mount: Path) -> None:
    """Wait until a change of a file has a later time than now; its clock has ticks of some ms."""
    now = time.time_ns()
    probe = mount.with_name("probe")

    def is_later() -> bool:
        probe.write_bytes(b"x")
        return probe.stat().st_ctime_ns > now

    wait_until(is_later)


def open_file(remote: Remote, name: str, flags: int) -> int:
    path = name.encode()
    answer = remote(
        *("path_open", 3, 1, DATA + 16, len(path), flags, READ_AND_WRITE, 0, 0, DATA),
        data=bytes(16) + path,
    )
    assert answer.errno == 0
    return answer.number


def differences_of(path: Path, cache: Path) -> tuple[str, ...]:
    """Return the differences that refuse a resume; empty if it is not refused."""
    try:
        journal.resume(path, cache=cache).close()
    except journal.HostMismatch as error:
        return error.differences
    return ()


def appended(mount: Path) -> None:
    with (mount / "kept").open("ab") as file:
        file.write(b"more")


def edited(mount: Path) -> None:
    with (mount / "kept").open("r+b") as file:
        file.write(b"X")


def truncated(mount: Path) -> None:
    os.truncate(mount / "kept", 0)


def backdated(mount: Path) -> None:
    edited(mount)
    os.truncate(mount / "kept", 5)
    os.utime(mount / "kept", (1, 1))


def removed(mount: Path) -> None:
    (mount / "kept").unlink()


def replaced(mount: Path) -> None:
    (mount / "other").write_bytes(b"0123456789")
    (mount / "other").replace(mount / "kept")


def renamed(mount: Path) -> None:
    (mount / "deep" / "er").mkdir(parents=True)
    (mount / "kept").rename(mount / "deep" / "er" / "new name")


def became_a_fifo(mount: Path) -> None:
    removed(mount)
    os.mkfifo(mount / "kept")


def copied(mount: Path) -> None:
    shutil.copytree(mount, mount.with_name("copy"))
    mount.rename(mount.with_name("old"))
    mount.with_name("copy").rename(mount)


def nothing(mount: Path) -> None:
    pass


def touched(mount: Path) -> None:
    (mount / "kept").chmod(0o600)
    (mount / "unrelated").write_bytes(b"x")


KEPT = "/host/kept, which the guest had open, "


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (nothing, ""),
        (touched, ""),
        (appended, KEPT + "was changed after the end of the recording"),
        (edited, KEPT + "was changed after the end of the recording"),
        (truncated, KEPT + "was changed after the end of the recording"),
        (removed, KEPT + "is gone: its descriptor answers ESTALE"),
        (replaced, KEPT + "was replaced by another file: its descriptor answers ESTALE"),
        (became_a_fifo, KEPT + "was replaced by another file: its descriptor answers ESTALE"),
        (renamed, KEPT + "is now /host/deep/er/new name"),
    ],
)
def test_a_changed_file_is_reported_in_one_sentence(
    change: Callable[[Path], None], sentence: str, mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    record_open(tmp_path, mount, cache_dir, "kept")
    change(mount)
    for attempt in range(2):
        assert check_resume(tmp_path / "j").differences == ((sentence,) if sentence else ())
        found = differences_of(tmp_path / "j", cache_dir)
        assert found == ((sentence,) if sentence else ()), f"attempt {attempt}"


@pytest.mark.parametrize(
    ("minutes", "is_told"), [(60, False), (1, True), (120, True)], ids=["within", "before", "after"]
)
def test_a_file_from_before_the_clock_was_set_back_is_no_difference(
    minutes: int, is_told: bool, mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    record_open(tmp_path, mount, cache_dir, "kept")

    def run_ahead(frames: list[Frame]) -> list[Frame]:
        """Let the clock be an hour ahead until the last event."""
        *early, last = frames
        return [*(frame._replace(time=frame.time + 60 * MINUTE) for frame in early), last]

    path = rewrite(tmp_path / "j", tmp_path / "ahead", run_ahead)
    *_, changed, last = frames_of(path)
    assert changed.time > last.time + 59 * MINUTE
    moment = (changed.time + (minutes - 60) * MINUTE) * 1000
    os.utime(mount / "kept", ns=(moment, moment))
    told = (KEPT + "was changed after the end of the recording",) if is_told else ()
    assert differences_of(path, cache_dir) == told


def test_a_moment_is_after_a_recording_if_no_part_of_it_explains_the_moment() -> None:
    times = RecordedTimes(100, 100, 200, ((300, 400), (500, 600)))
    moments = range(50, 700, 50)
    assert [moment for moment in moments if times.is_after_end(moment)] == [250, 450, 650]
    assert not RecordedTimes().is_after_end(1)


@pytest.mark.parametrize(
    ("change", "size"), [(backdated, 5), (truncated, 0), (nothing, 10), (touched, 10)]
)
def test_the_size_that_the_guest_has_seen_is_compared(
    change: Callable[[Path], None], size: int, mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.record(
        REMOTE, tmp_path / "j", mounts=[journal.HostMount(str(mount), "/host")], cache=cache_dir
    ) as recorder:
        remote = Remote(recorder)
        fd = open_file(remote, "kept", 0)
        assert remote("fd_filestat_get", fd, DATA).errno == 0
    wait_for_file_clock(mount)
    change(mount)
    found = differences_of(tmp_path / "j", cache_dir)
    wanted = (KEPT + f"has {size} bytes: the recording has 10",) if size < 10 else ()
    assert found == wanted
    copied(mount)
    found = differences_of(tmp_path / "j", cache_dir)
    assert found[1:] == wanted, "a copy has the same sizes"


def test_a_file_with_the_inode_of_a_removed_file_has_its_own_size(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    inodes, host = [], journal.HostMount(str(mount), "/host")
    with journal.record(REMOTE, tmp_path / "j", mounts=[host], cache=cache_dir) as recorder:
        remote = Remote(recorder)
        for size in (100, 10):
            fd = open_file(remote, "new", CREATE)
            inodes.append((mount / "new").stat().st_ino)
            buffer = struct.pack("<II", DATA + 16, size)
            written = remote("fd_write", fd, DATA, 1, DATA + 8, data=buffer + bytes(8 + size))
            assert written.errno == 0
            if size == 100:
                remote("fd_close", fd)
                (mount / "new").unlink()
    if len(set(inodes)) == 2:
        pytest.skip("the file system gives out no inode number again")
    wait_for_file_clock(mount)
    assert differences_of(tmp_path / "j", cache_dir) == ()
    copied(mount)
    assert len(differences_of(tmp_path / "j", cache_dir)) == 1, "only the directory"


def test_a_copy_at_the_same_path_is_reported_and_its_files_are_found_by_their_names(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (fd,) = record_open(tmp_path, mount, cache_dir, "kept")
    copied(mount)
    told = f"{mount}, mounted as /host, is not the directory of the recording"
    with pytest.raises(journal.HostMismatch, match=told):
        journal.resume(tmp_path / "j", cache=cache_dir)
    with (
        pytest.warns(HostDiffers, match=told),
        journal.resume(tmp_path / "j", cache=cache_dir, strict=False) as recorder,
    ):
        assert resume_remote(recorder)("fd_filestat_get", fd, DATA).errno == 0
    # The session before has accepted the copy.
    with journal.resume(tmp_path / "j", cache=cache_dir) as recorder:
        assert resume_remote(recorder)("fd_filestat_get", fd, DATA).errno == 0


def test_a_copy_that_the_user_names_is_no_difference(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (fd,) = record_open(tmp_path, mount, cache_dir, "kept")
    copied(mount)
    named = granting(mount)
    with journal.resume(tmp_path / "j", cache=cache_dir, grants=named) as recorder:
        assert recorder.differences == ()
        assert resume_remote(recorder)("fd_filestat_get", fd, DATA).errno == 0


def test_a_directory_that_is_gone_stops_the_resume_with_a_sentence(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    record_open(tmp_path, mount, cache_dir, "kept")
    mount.rename(mount.with_name("old"))
    told = f"{mount}, mounted as /host, is not a directory any more: name its new location"
    for strict in (True, False):
        with pytest.raises(journal.HostMismatch) as caught:
            journal.resume(tmp_path / "j", cache=cache_dir, strict=strict)
        assert str(caught.value) == told
    assert check_resume(tmp_path / "j").obstacle == told
    moved = granting(mount.with_name("old"))
    assert check_resume(tmp_path / "j", grants=moved).is_exact
    with pytest.raises(journal.OptionError, match="is not a directory: it cannot be mounted"):
        check_resume(tmp_path / "j", grants=granting(mount))


def list_snapshots_of(path: Path) -> list[SnapshotInfo]:
    with journal.Reader(path) as reader:
        return list(journal.list_snapshots(reader))


def test_the_directories_of_a_recording_without_inputs_are_compared(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    level = journal.engine.RecordingLevel.STATE
    host = journal.HostMount(str(mount), "/host")
    snapshots = journal.engine.SnapshotOptions(on=frozenset({Trigger.BOOTSTRAP}))
    with journal.record(
        REMOTE,
        tmp_path / "j",
        mounts=[host],
        level=level,
        snapshots=snapshots,
        cache=cache_dir,
    ):
        wait_until(lambda: list_snapshots_of(tmp_path / "j"))
    check = check_resume(tmp_path / "j")
    assert check.is_exact
    assert check.snapshot == list_snapshots_of(tmp_path / "j")[0].seq
    copied(mount)
    (told,) = check_resume(tmp_path / "j").differences
    assert told.startswith(f"{mount}, mounted as /host, is not the directory of the recording")
    mount.rename(mount.with_name("moved"))
    assert "is not a directory any more" in check_resume(tmp_path / "j").obstacle


def test_an_inode_that_was_given_out_again_is_another_file(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    inode = (mount / "kept").stat().st_ino
    record_open(tmp_path, mount, cache_dir, "kept")
    (mount / "kept").unlink()
    for _ in range(100):  # ext4 gives out a free inode at once.
        (mount / "kept").write_bytes(b"0123456789")
        if (mount / "kept").stat().st_ino == inode:
            break
        (mount / "kept").rename(mount / f"other-{len(list(mount.iterdir()))}")
    else:
        pytest.skip("this file system does not give out an inode again")
    found = differences_of(tmp_path / "j", cache_dir)
    assert found == (KEPT + "was replaced by another file: its descriptor answers ESTALE",)


#: Writes A to a file "temp", links it as "final", removes "temp", waits for input, and writes B.
SECOND_NAME = r"""
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open
    (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link" (func $link
    (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink
    (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "temp")
  (data (i32.const 8) "final")
  (data (i32.const 16) "\64\00\00\00\01\00\00\00")  ;; "A"
  (data (i32.const 24) "\65\00\00\00\01\00\00\00")  ;; "B"
  (data (i32.const 32) "\66\00\00\00\06\00\00\00")  ;; "ready"
  (data (i32.const 40) "\c8\00\00\00\10\00\00\00")
  (data (i32.const 100) "ABready\0a")
  (func (export "_start")
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1)
      (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 60)))
    (drop (call $write (i32.load (i32.const 60)) (i32.const 16) (i32.const 1) (i32.const 64)))
    (drop (call $link (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4)
      (i32.const 3) (i32.const 8) (i32.const 5)))
    (drop (call $unlink (i32.const 3) (i32.const 0) (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 64)))
    (drop (call $read (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 64)))
    (call $exit
      (call $write (i32.load (i32.const 60)) (i32.const 24) (i32.const 1) (i32.const 64)))))
"""


def test_a_file_whose_first_name_the_guest_removed_is_found_by_its_second_name(
    mount: Path, tmp_path: Path, cache_dir: Path
) -> None:
    mounts = [journal.HostMount(str(mount), "/")]
    guest_module = module(SECOND_NAME)
    with journal.record(guest_module, tmp_path / "j", mounts=mounts, cache=cache_dir) as recorder:
        wait_until(lambda: recorder.stdout == b"ready\n")
    with journal.resume(tmp_path / "j", cache=cache_dir) as recorder:
        recorder.feed(b"go on\n")
        assert wait_for_end(recorder).code == 0
    assert (mount / "final").read_bytes() == b"AB"


def test_the_search_for_another_name_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(b"")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "a" / "two").hardlink_to(tmp_path / "a" / "b" / "one")
    inode = (tmp_path / "a" / "two").stat().st_ino
    root = os.open(tmp_path, os.O_PATH)
    try:
        assert find_names(root, {inode})[inode] == [("a", "two"), ("a", "b", "one")]
        assert find_names(root, {inode}, 4)[inode] == [("a", "two")]
        assert find_names(root, {inode}, 1)[inode] == []
    finally:
        os.close(root)


# -- descriptors -----------------------------------------------------------------------------------

FILES = 150


@pytest.fixture
def many(tmp_path: Path, mount: Path, cache_dir: Path) -> Path:
    """The journal of a guest with many open files."""
    names = [f"file {number}" for number in range(FILES)]
    record_open(tmp_path, mount, cache_dir, *names, flags=CREATE)
    return tmp_path / "j"


@pytest.fixture
def descriptor_limit() -> Iterator[None]:
    """Restore the limit of open files after the test."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_soft_limit_of_open_files_is_raised(many: Path, tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh")
    done = run_tool("resume", "--strict", many, at=tmp_path, wrapper=limited)
    assert (done.returncode, done.stderr) == (82, b""), "the guest finds the end of its input"


def test_a_hard_limit_stops_the_resume_with_a_sentence(many: Path, tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -n 100; exec "$@"', "sh")
    done = run_tool("check-resume", many, at=tmp_path, wrapper=limited)
    assert (done.returncode, done.stdout.count(b"Too many open files")) == (1, 1)
    for _ in range(2):
        done = run_tool("resume", many, at=tmp_path, wrapper=limited)
        assert done.returncode == 125
        assert done.stderr.count(b"\n") == 1
        assert b"which the guest had open, cannot be reopened: Too many open files; " in done.stderr


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "EACCES", "EIO", "ENOMEM"])
def test_a_host_that_refuses_to_open_a_file_stops_the_resume(
    name: str, mount: Path, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_open(tmp_path, mount, cache_dir, "kept")
    number = getattr(errno, name)
    really_open = os.open

    def refuse(path: str | os.PathLike[str], *more: int, dir_fd: int | None = None) -> int:
        if path == "kept":
            raise OSError(number, os.strerror(number))
        return really_open(path, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    for strict in (True, False):
        with pytest.raises(journal.HostMismatch) as caught:
            journal.resume(tmp_path / "j", cache=cache_dir, strict=strict)
        assert str(caught.value).startswith(f"{KEPT}cannot be reopened: {os.strerror(number)}")
