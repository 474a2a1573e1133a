"""The working directory of a guest, its clock, and files with flags of their descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import journal
from journal.events.inputs import HostCall, HostResult
from journal.wasi_abi import Errno
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_objects import (
    ENDED,
    RIGHTS,
    ROOT_FD,
    GuestObjects,
    Outcome,
    Script,
    answers_in,
    make_tree,
    record_objects,
)
from tests.support.remote_guest import (
    DATA,
    END,
    REMOTE_ALONE,
    Answer,
)
from tests.support.rewrites import events_of, keep_first, rewrite
from tests.support.snapshot_runs import snapshots_in


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Iterator[GuestObjects]:
    """Run one guest for all quick tests: each makes objects of its own."""
    with record_objects(tmp_path_factory.mktemp("objects") / "j", cache_dir) as guest:
        yield guest


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"dir", b"/dir"),
        (b"/dir/inner", b"/dir/inner"),
        (b"./dir//inner/", b"/dir/inner"),
        (b"dir/../dir/./inner/..", b"/dir"),
        (b"link", b"/dir/inner"),
        (b"/dir/up/link/..", b"/dir"),
        (b"../../dir", b"/dir"),
        (b"", Errno.NOENT),
        (b"absent", Errno.NOENT),
        (b"dir/absent/..", Errno.NOENT),
        (b"dir/out", Errno.PERM),
        (b"x" * 111, Errno.NOENT),
    ],
)
def test_a_directory_is_found_from_the_working_directory(
    guest: GuestObjects, path: bytes, expected: bytes | Errno
) -> None:
    make_tree(guest)
    assert guest.chdir(b"/").errno == 0
    outcome = guest.chdir(path)
    if isinstance(expected, bytes):
        assert outcome.errno == 0
        assert guest.getcwd().value == expected
    else:
        assert outcome.errno == expected
        assert guest.getcwd().value == b"/"


def test_a_path_below_the_working_directory_continues_there(guest: GuestObjects) -> None:
    make_tree(guest)
    assert guest.chdir(b"/dir").errno == 0
    assert guest.chdir(b"inner").errno == 0
    assert guest.getcwd().value == b"/dir/inner"
    assert guest.getcwd(10).value == b"/dir/inner"
    assert guest.getcwd(9) == Outcome(Errno.RANGE, 10)
    assert guest.getcwd(0) == Outcome(Errno.RANGE, 10)
    assert guest.call("getcwd", 0, DATA, data=b"\x20\0\0\0").errno == Errno.INVAL
    assert guest.chdir(b"..").errno == 0
    assert guest.getcwd().value == b"/dir"
    assert guest.chdir(b"/").errno == 0


def test_only_the_realtime_clock_can_be_set(guest: GuestObjects) -> None:
    def read(clock: int) -> int:
        answer = guest.call("clock_time_get", clock, 0, DATA)
        assert answer.errno == 0
        return int.from_bytes(answer.data[:8], "little")

    before = read(1)
    assert guest.call("clock_time_set", 0, 1_000_000).errno == 0
    assert 1_000_000 <= read(0) < 10**15
    assert before <= read(1) < before + 10**12, "the monotonic clock goes on"
    for clock in (1, 2, 3, 9):
        assert guest.call("clock_time_set", clock, 5).errno == Errno.INVAL


def test_a_path_is_opened_with_a_flag_of_its_descriptor(guest: GuestObjects) -> None:
    arguments = (ROOT_FD, 1, DATA, 4, 1, RIGHTS, RIGHTS, 0)
    for flags, expected in ((1, 1), (0, 0), (6, 0)):
        answer = guest.call("path_open2", *arguments, flags, DATA, data=b"file")
        assert answer.errno == 0
        assert guest.fd_flags(answer.number).value == expected
        assert guest.set_fd_flags(answer.number, 3).errno == 0
        assert guest.fd_flags(answer.number).value == 1
        guest.close(answer.number)


def record_in_host_directory(script: Script, path: Path, cache: Path) -> list[Answer]:
    """Record a guest with a directory of the host, and return its answers."""
    tree = path.with_name("tree")
    (tree / "dir").mkdir(parents=True)
    (tree / "file").write_bytes(b"in a file")
    (tree / "link").symlink_to("dir")
    (tree / "out").symlink_to("../secret")
    (tree / "absolute").symlink_to("/etc")
    with journal.record(
        REMOTE_ALONE,
        path,
        mounts=[journal.engine.HostMount(str(tree), "/mnt/host")],
        stdin=script.orders + END,
        snapshots=journal.engine.SnapshotOptions(every_events=1),
        cache=cache,
    ) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) == ENDED
        return answers_in(recorder.stdout)


def test_a_directory_of_the_host_can_be_the_working_directory(
    tmp_path: Path, cache_dir: Path
) -> None:
    script, path = Script(), tmp_path / "j"
    for directory in (b"/mnt", b"host", b"link", b"..", b"out", b"absolute", b"file", b"/"):
        script.guest.chdir(directory)
        script.guest.getcwd()
    answers = record_in_host_directory(script, path, cache_dir)
    refused = [Errno.PERM, Errno.PERM, Errno.NOTDIR]
    assert [answer.errno for answer in answers[::2]] == [0, 0, 0, 0, *refused, 0]
    assert [answer.data[4 : 4 + answer.number] for answer in answers[1::2]] == [
        *(b"/mnt", b"/mnt/host", b"/mnt/host/dir", *[b"/mnt/host"] * 4, b"/")
    ]
    for start in (None, snapshots_in(path)[-1].seq):
        assert journal.verify_replay(path, start=start, cache=cache_dir).matches


def test_duplicates_share_the_position_in_a_file_of_the_host_after_a_resume(
    tmp_path: Path, cache_dir: Path
) -> None:
    script, path = Script(), tmp_path / "j"
    arguments = (ROOT_FD, 1, DATA, 4, 0, RIGHTS, RIGHTS, 0, 1, DATA)
    script.guest.call("path_open2", *arguments, data=b"file")
    script.guest.dup(4)
    script.guest.read(5, 4)
    script.guest.read(4, 100)
    script.guest.fd_flags(4)
    answers = record_in_host_directory(script, path, cache_dir)
    assert [answer.errno for answer in answers] == [0] * 5
    assert (answers[2].data[16:20], answers[3].data[16:21]) == (b"in a", b" file")
    results = [
        (at, each) for at, each in enumerate(events_of(path)) if isinstance(each, HostResult)
    ]
    reads = [at for at, each in results if each.call is HostCall.READ]
    cut = rewrite(path, tmp_path / "cut", keep_first(reads[-1]))  # Before the second read.
    for reexecute in (True, False):
        copy = rewrite(cut, tmp_path / f"cut {reexecute}")
        with journal.resume(
            copy, stdin=script.orders + END, reexecute=reexecute, cache=cache_dir
        ) as recorder:
            assert recorder.wait(DEADLINE_SECONDS) == ENDED
            assert answers_in(recorder.stdout) == answers
