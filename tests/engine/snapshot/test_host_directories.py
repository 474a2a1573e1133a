"""Tests of snapshots of guests with host resources: host directories, sockets, a terminal.

A host directory is not part of a journal. A run that resumes from an old snapshot needs the
directory as it was then. The tests copy the directory at each snapshot, and resume with the copy.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import HostMount, MemoryMount
from journal.engine import (
    ALL_NETWORK,
    NO_NETWORK,
    Grants,
    HostDiffers,
    NetworkPolicy,
    SnapshotOptions,
)
from journal.engine.snapshot.capture import SnapshotCapture
from journal.snapshots import Trigger
from journal.wasi_abi import Errno
from tests.support.command_line import start_tool, write_input
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.guest_runs import wait_for_end
from tests.support.killed_runs import count_consumed
from tests.support.oracle import read_tree
from tests.support.programs import guest
from tests.support.remote_guest import DATA, REMOTE, Remote, Session
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import (
    STAGES,
    check_guest_end,
    check_resumes,
    finish_run,
    snapshots_in,
    triggers_in,
)
from tests.support.wasix_sockets import (
    expect_note,
    inet4,
    is_reached,
    listen,
    open_socket,
    port_of,
    resume_remote,
)
from tests.support.wasix_terminals import QUIET, Terminal, Tty, get_tty, set_tty

EXPLICIT = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
TAKEN_MAX = 24
WITH_HOST = [one for one in SNAPSHOT_GUESTS if one.host]
KEPT = [one for one in WITH_HOST if one.lasts]
(UNLINKED,) = (one for one in WITH_HOST if not one.lasts)

End = tuple[journal.engine.RunResult, bytes, dict[str, bytes], dict[str, bytes | str]]


def place(folder: Path) -> Path:
    return folder / "host"


def start_recording(
    one: SnapshotGuest, folder: Path, cache: Path, *, stdin: bytes | None, **more: Any
) -> journal.Recorder:
    place(folder).mkdir(parents=True)
    mounts: list[HostMount | MemoryMount] = [MemoryMount(name) for name in one.memory]
    mounts += [HostMount(str(place(folder)), name) for name in one.host]
    return journal.record(
        one.path,
        folder / "j",
        args=one.argv,
        mounts=mounts,
        stdin=stdin,
        cache=cache,
        durability=journal.engine.Durability.NONE,
        **more,
    )


def end_of(recorder: journal.Recorder, directory: Path) -> End:
    return wait_for_end(recorder), recorder.stdout, recorder.files, read_tree(directory)


def resume_copy(folder: Path, at: int, copy: Path, cache: Path, stdin: bytes | None) -> End:
    """Return the end of a run from a snapshot, with the copy of the directory."""
    with journal.resume(
        folder / "j",
        at=at,
        into=folder / f"j-{at}",
        grants=Grants(directories=[HostMount(str(copy), "/host")]),
        stdin=stdin,
        cache=cache,
        strict=False,
        snapshots=SnapshotOptions(),
        durability=journal.engine.Durability.NONE,
    ) as recorder:
        return end_of(recorder, copy)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Copy a folder's host directory at each snapshot, to ``host-NUMBER``."""

    def at_each(folder: Path) -> None:
        done = SnapshotCapture.commit

        def commit(capture: SnapshotCapture, trigger: Trigger) -> Any:
            shot = done(capture, trigger)
            shutil.copytree(place(folder), folder / f"host-{shot.seq}", symlinks=True)
            return shot

        monkeypatch.setattr(SnapshotCapture, "commit", commit)

    return at_each


def often(one: SnapshotGuest, folder: Path, cache: Path) -> tuple[End, SnapshotOptions]:
    """Return the end of a run without snapshots, and the options of a run with many snapshots."""
    with start_recording(one, folder / "plain", cache, stdin=one.stdin) as recorder:
        plain = end_of(recorder, place(folder / "plain"))
    with journal.Reader(folder / "plain" / "j") as reader:
        events = reader.summary().events
    return plain, SnapshotOptions(every_events=events // TAKEN_MAX)


@pytest.mark.deep
@pytest.mark.parametrize("one", KEPT, ids=str)
def test_from_each_snapshot_a_guest_goes_on_in_a_copy_of_its_directory(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path, copied: Callable[[Path], None]
) -> None:
    plain, snapshots = often(one, tmp_path, cache_dir)
    check_guest_end(one, plain[0], plain[1])
    copied(tmp_path)
    with start_recording(
        one, tmp_path, cache_dir, stdin=one.stdin, snapshots=snapshots
    ) as recorder:
        assert end_of(recorder, place(tmp_path)) == plain
    infos = snapshots_in(tmp_path / "j")
    assert len(infos) >= TAKEN_MAX // 2
    for info in infos:
        copy = tmp_path / f"host-{info.seq}"
        assert resume_copy(tmp_path, info.seq, copy, cache_dir, one.stdin) == plain, f"from {info}"
    assert read_tree(place(tmp_path)) == plain[3], "that of the first run is left alone"


def test_what_a_replay_compares_needs_no_directory(tmp_path: Path, cache_dir: Path) -> None:
    for one in KEPT:
        folder = tmp_path / one.title
        _, snapshots = often(one, folder, cache_dir)
        with start_recording(
            one, folder, cache_dir, stdin=one.stdin, snapshots=snapshots
        ) as recorder:
            wait_for_end(recorder)
        shutil.rmtree(place(folder))
        infos = snapshots_in(folder / "j")
        for start in (None, infos[0].seq, infos[len(infos) // 2].seq):
            found = journal.verify_replay(folder / "j", start=start, cache=cache_dir)
            assert found.matches
            assert found.checks


@pytest.mark.deep
@pytest.mark.filterwarnings("ignore:.* had been removed by the guest:journal.engine.HostDiffers")
def test_a_file_that_was_unlinked_while_it_was_open_is_gone_behind_a_snapshot(
    tmp_path: Path, cache_dir: Path, copied: Callable[[Path], None]
) -> None:
    plain, snapshots = often(UNLINKED, tmp_path, cache_dir)
    copied(tmp_path)
    with start_recording(UNLINKED, tmp_path, cache_dir, stdin=b"", snapshots=snapshots) as recorder:
        assert end_of(recorder, place(tmp_path)) == plain
    behind = []
    for info in snapshots_in(tmp_path / "j"):
        copy = tmp_path / f"host-{info.seq}"
        is_unlinked = (copy / "place").exists() and not (copy / "gone").exists()
        found = resume_copy(tmp_path, info.seq, copy, cache_dir, b"")
        if is_unlinked:
            behind.append(found == plain)
        else:
            assert found == plain, f"from {info}"
        if found != plain:
            assert found[0].code == 1
            assert found[1].endswith((b"cannot read\n", b"cannot look\n")), found[1]
    assert not behind[0]
    assert behind == sorted(behind), "but it has closed it in the end"
    assert behind.count(False) > 4


@pytest.mark.deep
@pytest.mark.parametrize("stage", [1, 3, 4, 6])
@pytest.mark.parametrize("one", KEPT, ids=str)
def test_a_guest_that_was_killed_goes_on_in_its_own_directory_from_its_newest_snapshot(
    one: SnapshotGuest, stage: int, tmp_path: Path, cache_dir: Path
) -> None:
    with start_recording(one, tmp_path / "whole", cache_dir, stdin=b"x" * STAGES) as recorder:
        wanted = end_of(recorder, place(tmp_path / "whole"))
    place(tmp_path).mkdir()
    options: list[str | Path] = ["--snapshot-on", "bootstrap", "--snapshot-events", "9"]
    options += ["--dir", f"{place(tmp_path)}::/host"]
    for name in one.memory:
        options += ["--memory", name]
    arguments = [*options, "--no-root", "-j", "j", guest(one.name), *one.args]
    with start_tool(tmp_path, "run", *arguments) as process:
        write_input(process, b"x" * stage)
        wait_until(lambda: (tmp_path / "j").exists() and count_consumed(tmp_path / "j") == stage)
        process.kill()
        assert process.wait(DEADLINE_SECONDS) < 0
    assert triggers_in(tmp_path / "j")
    notes: list[str] = []
    with journal.resume(tmp_path / "j", cache=cache_dir, note=notes.append) as recorder:
        recorder.feed(b"x" * (STAGES - stage))
        recorder.close_stdin()
        found = end_of(recorder, place(tmp_path))
    assert notes == [], "it is not executed again"
    assert found == wanted


# -- changes of one file ---------------------------------------------------------------------------


def remote_with_a_file(folder: Path, cache: Path) -> tuple[int, int]:
    """Record a guest with an open host file; return its descriptor and the snapshot's sequence
    number.
    """
    place(folder).mkdir()
    (place(folder) / "kept").write_bytes(b"0123456789")
    with journal.record(
        REMOTE,
        folder / "j",
        mounts=[HostMount(str(place(folder)), "/host")],
        snapshots=EXPLICIT,
        cache=cache,
    ) as recorder:
        remote = Remote(recorder)
        path = b"kept"
        rights = 0x6, 0  # to read and to seek
        answer = remote(
            *("path_open", 3, 1, DATA + 16, len(path), 0, *rights, 0, DATA),
            data=bytes(16) + path,
        )
        assert answer.errno == 0
        seq = recorder.snapshot()
        assert seq is not None
        return answer.number, seq


def left(path: Path) -> None:
    """Return nothing."""


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    (path.parent / "other").write_bytes(b"another")
    (path.parent / "other").replace(path)


def renamed(path: Path) -> None:
    path.rename(path.parent / "another name")


def made_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_a_link(path: Path) -> None:
    path.rename(path.parent / "target")
    path.symlink_to("target")


def resume_with_errno(folder: Path, at: int, into: Path, cache: Path, fd: int) -> int:
    """Return the errno that a resumed guest gets for an open file."""
    with journal.resume(folder / "j", at=at, into=into, cache=cache, strict=False) as recorder:
        wait_until(lambda: len(recorder.stdout) > 0)
        again = Remote(recorder)
        errno = again("fd_filestat_get", fd, DATA).errno
        assert again("fd_tell", fd, DATA).errno == 0, "where it is, is known"
        assert again("fd_close", fd).errno == 0
        again.end()
        return int(errno)


@pytest.mark.parametrize("change", [removed, replaced, made_a_directory])
def test_a_file_that_is_not_there_any_more_is_stale_behind_a_snapshot(
    change: Callable[[Path], None], tmp_path: Path, cache_dir: Path
) -> None:
    fd, seq = remote_with_a_file(tmp_path, cache_dir)
    assert resume_with_errno(tmp_path, seq, tmp_path / "left", cache_dir, fd) == 0
    change(place(tmp_path) / "kept")
    with pytest.raises(journal.HostMismatch, match="/host/kept, which the guest had open, "):
        journal.resume(tmp_path / "j", at=seq, into=tmp_path / "strict", cache=cache_dir)
    with pytest.warns(HostDiffers, match="its descriptor answers ESTALE"):
        errno = resume_with_errno(tmp_path, seq, tmp_path / "changed", cache_dir, fd)
    assert errno == Errno.STALE


@pytest.mark.parametrize("change", [renamed, made_a_link])
def test_a_file_that_was_renamed_is_found_behind_a_snapshot(
    change: Callable[[Path], None], tmp_path: Path, cache_dir: Path
) -> None:
    fd, seq = remote_with_a_file(tmp_path, cache_dir)
    change(place(tmp_path) / "kept")
    with pytest.raises(journal.HostMismatch, match="/host/kept, which the guest had open, is now"):
        journal.resume(tmp_path / "j", at=seq, into=tmp_path / "strict", cache=cache_dir)
    with pytest.warns(HostDiffers, match="is now /host/"):
        assert resume_with_errno(tmp_path, seq, tmp_path / "changed", cache_dir, fd) == 0


def test_a_file_that_is_removed_when_the_run_has_gone_on_stays_open(
    tmp_path: Path, cache_dir: Path
) -> None:
    fd, _ = remote_with_a_file(tmp_path, cache_dir)
    for reexecute in (False, True):
        copy = tmp_path / f"copy-{reexecute}"
        shutil.copytree(place(tmp_path), copy)
        moved = Grants(directories=[HostMount(str(copy), "/host")])
        with journal.resume(
            tmp_path / "j", grants=moved, reexecute=reexecute, cache=cache_dir
        ) as recorder:
            again = resume_remote(recorder)
            assert again("fd_tell", fd, DATA).errno == 0
            removed(copy / "kept")
            assert again("fd_filestat_get", fd, DATA).errno == 0


def test_a_changed_file_is_as_it_is_now(tmp_path: Path, cache_dir: Path) -> None:
    fd, seq = remote_with_a_file(tmp_path, cache_dir)
    copy = tmp_path / "elsewhere"
    shutil.copytree(place(tmp_path), copy)
    (copy / "kept").write_bytes(b"changed since")
    for directory, size in ((place(tmp_path), 10), (copy, 13)):
        moved = Grants(directories=[HostMount(str(directory), "/host")])
        into = tmp_path / f"of-{size}"
        with journal.resume(
            tmp_path / "j", at=seq, into=into, grants=moved, cache=cache_dir
        ) as recorder:
            wait_until(lambda r=recorder: len(r.stdout) > 0)  # type: ignore[misc]
            data = Remote(recorder)("fd_filestat_get", fd, DATA).data
            assert int.from_bytes(data[32:40], "little") == size


# -- sockets ---------------------------------------------------------------------------------------


def test_from_each_snapshot_a_guest_that_listens_comes_to_the_same_end(
    tmp_path: Path, cache_dir: Path
) -> None:
    often = SnapshotOptions(every_events=1)
    with journal.record(
        guest("listen"),
        tmp_path / "j",
        args=["listen"],
        network=ALL_NETWORK,
        snapshots=often,
        cache=cache_dir,
    ) as recorder:
        wanted = finish_run(recorder)
    assert {info.function for info in snapshots_in(tmp_path / "j")} >= {"sock_bind", "fd_close"}
    check_resumes(tmp_path / "j", wanted, cache_dir, network=ALL_NETWORK)


def test_a_socket_is_at_each_snapshot_what_it_was_then(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "j"
    with journal.record(
        REMOTE, path, network=ALL_NETWORK, snapshots=EXPLICIT, cache=cache_dir
    ) as recorder:
        remote, seqs = Remote(recorder), [recorder.snapshot()]
        fd = open_socket(remote)
        seqs.append(recorder.snapshot())
        assert remote("sock_bind", fd, DATA, data=inet4(0)).errno == 0
        seqs.append(recorder.snapshot())
        assert remote("sock_listen", fd, 5).errno == 0
        port = port_of(remote, fd)
        seqs.append(recorder.snapshot())
        assert remote("fd_close", fd).errno == 0
        seqs.append(recorder.snapshot())
    assert not is_reached(port)
    for stage, seq in enumerate(seqs):
        assert seq is not None
        into = tmp_path / f"stage-{stage}"
        with journal.resume(
            path, at=seq, into=into, network=ALL_NETWORK, cache=cache_dir
        ) as recorder:
            if stage:
                wait_until(lambda r=recorder: len(r.stdout) > 0)  # type: ignore[misc]
            again = Remote(recorder)
            assert again("fd_fdstat_get", fd, DATA).errno == (0 if 1 <= stage <= 3 else Errno.BADF)
            assert is_reached(port) == (stage == 3)
            if stage in (2, 3):
                assert port_of(again, fd) == port
            if stage == 2:
                assert again("sock_listen", fd, 5).errno == 0
                assert is_reached(port)


@pytest.mark.parametrize(
    "network", [NO_NETWORK, ALL_NETWORK], ids=["without permission", "port taken"]
)
def test_a_socket_that_cannot_be_had_again_behind_a_snapshot_is_told_of(
    network: NetworkPolicy, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "j"
    with journal.record(
        REMOTE, path, network=ALL_NETWORK, snapshots=EXPLICIT, cache=cache_dir
    ) as recorder:
        fd, port = listen(Remote(recorder))
        assert recorder.snapshot() is not None
    with (
        socket.create_server(("127.0.0.1", port)),
        expect_note(f"at 127.0.0.1:{port}"),
        journal.resume(path, network=network, cache=cache_dir) as recorder,
    ):
        wait_until(lambda: len(recorder.stdout) > 0)
        errno = Errno.ACCES if network.is_empty else Errno.ADDRINUSE
        assert Remote(recorder)("sock_listen", fd, 5).errno == errno


# -- the terminal ----------------------------------------------------------------------------------


@pytest.fixture
def terminals() -> Iterator[tuple[Terminal, Terminal]]:
    """Return two terminals."""
    found = Terminal(), Terminal(132, 43)
    yield found
    for one in found:
        one.close()


def test_a_terminal_is_at_each_snapshot_what_the_guest_had_made_of_it(
    tmp_path: Path, cache_dir: Path, terminals: tuple[Terminal, Terminal]
) -> None:
    first, second = terminals
    before = second.attributes, second.size
    path = tmp_path / "j"
    with journal.record(
        REMOTE, path, stderr=first.slave, snapshots=EXPLICIT, cache=cache_dir
    ) as recorder:
        remote = Remote(recorder)
        get_tty(remote)
        seqs = [recorder.snapshot()]
        set_tty(remote, QUIET)
        seqs.append(recorder.snapshot())
        set_tty(remote, QUIET._replace(echo=1))
        seqs.append(recorder.snapshot())
    assert first.modes == (True, True)
    for stage, (seq, modes) in enumerate(
        zip(seqs, [(True, True), (False, False), (True, False)], strict=True)
    ):
        assert seq is not None
        into = tmp_path / f"stage-{stage}"
        with journal.resume(
            path, at=seq, into=into, stderr=second.slave, cache=cache_dir
        ) as recorder:
            wait_until(lambda r=recorder: len(r.stdout) > 0)  # type: ignore[misc]
            again = Remote(recorder)
            expected = QUIET._replace(stderr=1, echo=int(modes[0]))
            assert get_tty(again) == (expected if stage else Tty(132, 43, stderr=1))
            assert second.modes == modes
            again.end()
        assert (second.attributes, second.size) == before


def test_after_a_kill_the_terminal_comes_back_from_a_snapshot(
    tmp_path: Path, cache_dir: Path, terminals: tuple[Terminal, Terminal]
) -> None:
    path, (first, second) = tmp_path / "j", terminals
    with journal.record(
        REMOTE, path, stderr=first.slave, snapshots=EXPLICIT, cache=cache_dir
    ) as recorder:
        set_tty(Remote(recorder), QUIET)
        assert recorder.snapshot() is not None
    with Session("resume", path, cache_dir, second.slave) as again:
        wait_until(lambda: (second.modes, second.size) == ((False, False), QUIET[:4]))
        again.kill()
    third = Terminal()
    with Session("resume", path, cache_dir, third.slave) as again:
        wait_until(lambda: (third.modes, third.size) == ((False, False), QUIET[:4]))
        again.end()
    assert third.modes == (True, True)
    third.close()
