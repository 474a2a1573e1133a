"""A journal grants nothing: a resume gets what its user recorded, approved or names."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import Frame, HostMount
from journal.engine import Approvals, Grants, approve, check_resume, read_request
from journal.engine.trust import access_request
from journal.events import Event
from journal.events.core import ProcessExit
from journal.events.descriptors import FileDescriptorWrite
from journal.events.process import ModulePart, Mount, ProcessStart
from journal.log.reader import Reader
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest
from tests.support.remote_guest import DATA, REMOTE, Remote
from tests.support.rewrites import alter_event, events_of, replace_event, rewrite
from tests.support.wasix_sockets import resume_remote
from tests.support.wat import CREATE

READ_AND_WRITE = 0x66
PERM, NOT_CAPABLE = 63, 76


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A directory of the host with one file."""
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "kept").write_bytes(b"0123456789")
    return folder


@pytest.fixture
def path(tmp_path: Path, room: Path, cache_dir: Path) -> Path:
    """The journal of a guest that was stopped with a file of the directory open."""
    with journal.record(
        REMOTE, tmp_path / "j", mounts=[HostMount(str(room), "/host")], cache=cache_dir
    ) as recorder:
        assert open_file(Remote(recorder), "kept") == 4
    return tmp_path / "j"


@pytest.fixture
def strange(path: Path) -> Iterator[Path]:
    """Return a journal that another user recorded."""
    Approvals().revoke(read_request(path).journal_id)
    yield path
    with Reader(path) as reader:
        assert not Approvals().find(reader.journal_id), "a resume with grants approves nothing"


def open_file(remote: Remote, name: str, flags: int = 0) -> int:
    encoded = name.encode()
    answer = remote(
        *("path_open", 3, 1, DATA + 16, len(encoded), flags, READ_AND_WRITE, 0, 0, DATA),
        data=bytes(16) + encoded,
    )
    return answer.number if not answer.errno else -answer.errno


def write_file(remote: Remote, fd: int, text: bytes) -> int:
    """Let the guest write a text, and return the errno."""
    vector = (DATA + 16).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    return remote("fd_write", fd, DATA, 1, DATA + 12, data=vector.ljust(16, b"\0") + text).errno


def last_seq(path: Path) -> int:
    with Reader(path) as reader:
        (frame,) = reader.last(1)
        return frame.seq


def granting(folder: Path, *, read_only: bool = False) -> Grants:
    return Grants(directories=[HostMount(str(folder), "/host", read_only)])


def test_a_user_resumes_an_own_recording_without_grants_also_a_moved_copy(
    path: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "renamed")
    shutil.copy(moved, tmp_path / "copy")
    journal.resume(tmp_path / "copy", cache=cache_dir).close()
    with journal.resume(moved, cache=cache_dir) as recorder:
        assert write_file(resume_remote(recorder), 4, b"again") == 0
    assert (room / "kept").read_bytes() == b"again56789"


def test_a_directory_that_nobody_granted_is_refused_with_the_option_that_grants_it(
    strange: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    before = strange.read_bytes()
    with pytest.raises(journal.GrantsMissing) as caught:
        journal.resume(strange, cache=cache_dir)
    error = caught.value
    assert error.requests == (f"the directory '{room}' as '/host', writable",)
    assert error.options == (f"--dir {room}::/host",)
    assert all(part in str(error) for part in (*error.requests, *error.options))
    assert "\n" not in str(error)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.options) == (str(error), error.options)
    assert check_resume(strange).obstacle == str(error)
    with pytest.raises(journal.GrantsMissing):
        journal.resume(strange, at=0, into=tmp_path / "new", cache=cache_dir)
    assert not (tmp_path / "new").exists()
    assert strange.read_bytes() == before


def test_the_user_grants_a_directory_for_a_mount(
    strange: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(room, other)
    (tmp_path / "link").symlink_to("other")
    assert check_resume(strange, grants=granting(other)).is_exact
    with journal.resume(strange, grants=granting(tmp_path / "link"), cache=cache_dir) as recorder:
        assert write_file(resume_remote(recorder), 4, b"granted") == 0
    assert (other / "kept").read_bytes() == b"granted789"
    assert (room / "kept").read_bytes() == b"0123456789"


def test_a_read_only_grant_allows_no_change(strange: Path, room: Path, cache_dir: Path) -> None:
    grants = granting(room, read_only=True)
    with journal.resume(strange, grants=grants, cache=cache_dir) as recorder:
        remote = resume_remote(recorder)
        assert remote("fd_filestat_get", 4, DATA).errno == 0
        assert write_file(remote, 4, b"x") == PERM
        assert open_file(remote, "new", CREATE) in (-PERM, -NOT_CAPABLE)
    assert [each.name for each in room.iterdir()] == ["kept"]
    assert (room / "kept").read_bytes() == b"0123456789"


def test_a_change_without_a_result_is_not_repeated_in_a_read_only_directory(
    path: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.resume(path, cache=cache_dir) as recorder:
        assert write_file(resume_remote(recorder), 4, b"recorded") == 0

    def cut_after_write(frames: list[Frame]) -> list[Frame]:
        (at,) = (at for at, each in enumerate(frames) if each.tag == FileDescriptorWrite.tag)
        return frames[: at + 1]

    cut = rewrite(path, tmp_path / "cut", cut_after_write)
    (room / "kept").write_bytes(b"0123456789")
    grants = granting(room, read_only=True)
    with journal.resume(cut, grants=grants, strict=False, cache=cache_dir) as recorder:
        resume_remote(recorder).end()
        wait_for_end(recorder)
    assert (room / "kept").read_bytes() == b"0123456789"


def test_a_mount_that_was_recorded_as_read_only_stays_read_only(
    room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    mounts = [HostMount(str(room), "/host", read_only=True)]
    with journal.record(REMOTE, tmp_path / "j", mounts=mounts, cache=cache_dir):
        pass
    with journal.resume(tmp_path / "j", grants=granting(room), cache=cache_dir) as recorder:
        assert open_file(Remote(recorder), "new", CREATE) in (-PERM, -NOT_CAPABLE)
    assert not (room / "new").exists()


def alter_event_of(path: Path, target: Path, which: type[Event], /, **changes: object) -> Path:
    """Copy a journal with changes of its only event of a class. The id is kept."""
    events = events_of(path)
    (at,) = (at for at, each in enumerate(events) if isinstance(each, which))
    altered = alter_event(events[at], **changes)
    return rewrite(path, target, lambda frames: replace_event(frames, at, altered))


def test_a_forged_journal_gets_no_more_than_the_approval_of_its_id_names(
    path: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    forged = [
        alter_event_of(path, tmp_path / "host", Mount, host=str(outside)),
        alter_event_of(path, tmp_path / "guest", Mount, guest="/other"),
        alter_event_of(path, tmp_path / "module", ProcessStart, module_hash=bytes(32)),
    ]
    for each in forged:
        with pytest.raises(journal.GrantsMissing):
            journal.resume(each, cache=cache_dir)
    read_only = journal.events.process.MountKind(2)
    less = alter_event_of(path, tmp_path / "less", Mount, kind=read_only)
    assert "granted" not in check_resume(less).obstacle, "less than the approval is approved"


def test_an_approval_of_a_read_only_directory_gives_no_writable_one(
    room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    mounts = [HostMount(str(room), "/host", read_only=True)]
    with journal.record(REMOTE, tmp_path / "j", mounts=mounts, cache=cache_dir):
        pass
    kind = journal.events.process.MountKind.HOST
    more = alter_event_of(tmp_path / "j", tmp_path / "more", Mount, kind=kind)
    with pytest.raises(journal.GrantsMissing, match="writable"):
        journal.resume(more, cache=cache_dir)


def test_an_approved_path_that_became_a_link_is_refused(
    path: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (tmp_path / "secret").mkdir()
    room.rename(tmp_path / "old")
    room.symlink_to("secret")
    with pytest.raises(journal.HostMismatch, match="leads through a symbolic link now"):
        journal.resume(path, strict=False, cache=cache_dir)


def test_an_approval_by_the_user_holds_until_it_is_revoked(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    store = tmp_path / "approvals"
    with pytest.raises(journal.GrantsMissing):
        journal.resume(path, approvals=store, cache=cache_dir)
    request = approve(path, approvals=store)
    journal.resume(path, approvals=store, cache=cache_dir).close()
    assert Approvals(store).revoke(request.journal_id) == 1
    with pytest.raises(journal.GrantsMissing):
        journal.resume(path, approvals=store, cache=cache_dir)


def test_a_compacted_journal_and_its_parts_stay_approved(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    journal.compact_in_place(path)
    journal.compact(path, tmp_path / "compact")
    end = last_seq(path)
    journal.cut(path, tmp_path / "cut", at=end)
    for each in (path, tmp_path / "compact", tmp_path / "cut"):
        assert check_resume(each).obstacle == ""


def test_a_fork_stays_approved(path: Path, tmp_path: Path, cache_dir: Path) -> None:
    end = last_seq(path)
    journal.resume(path, at=end, into=tmp_path / "new", cache=cache_dir).close()
    journal.resume(tmp_path / "new", cache=cache_dir).close()
    journal.fork(path, tmp_path / "fork", at=end)
    journal.resume(tmp_path / "fork", cache=cache_dir).close()


def test_a_run_that_continues_in_a_new_journal_by_grants_is_not_approved(
    strange: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    end = last_seq(strange)
    new = tmp_path / "new"
    journal.resume(strange, at=end, into=new, grants=granting(room), cache=cache_dir).close()
    with pytest.raises(journal.GrantsMissing):
        journal.resume(new, cache=cache_dir)


def test_a_program_that_has_ended_needs_no_grants_and_its_directories_are_closed(
    room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    mounts: list[HostMount | journal.MemoryMount] = [HostMount(str(room), "/host")]
    mounts.append(journal.MemoryMount("/"))
    with journal.record(REMOTE, tmp_path / "j", mounts=mounts, cache=cache_dir) as recorder:
        remote = Remote(recorder)
        assert open_file(remote, "kept") == 5
        remote.end()
        wait_for_end(recorder)
        printed = recorder.stdout
    with journal.resume(tmp_path / "j", approvals=tmp_path / "none", cache=cache_dir) as recorder:
        assert (recorder.ended_before, recorder.stdout) == (True, printed)
        assert recorder.files == {}
        with pytest.raises(PermissionError):
            recorder.read_file("/host/kept")


def test_a_forged_end_gives_no_access(
    path: Path, room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    def end_early(frames: list[Frame]) -> list[Frame]:
        end = journal.encode(ProcessExit(exit_code=0))
        return [*frames, frames[-1]._replace(tag=ProcessExit.tag, payload=end)]

    forged = rewrite(path, tmp_path / "forged", end_early)
    with journal.resume(forged, approvals=tmp_path / "none", cache=cache_dir) as recorder:
        with pytest.raises(journal.Divergence):
            _ = recorder.files
        with pytest.raises(PermissionError):
            recorder.read_file("/host/kept")


def test_nothing_that_reads_a_journal_opens_its_directories(
    strange: Path, room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    really_open, really_scan = os.open, os.scandir

    def watch_open(name: str | os.PathLike[str], *more: int, **named: int) -> int:
        opened.append(os.fspath(name))
        return really_open(name, *more, **named)

    def watch_scan(name: str = ".") -> Any:
        opened.append(name)
        return really_scan(name)

    monkeypatch.setattr(os, "open", watch_open)
    monkeypatch.setattr(os, "scandir", watch_scan)
    assert journal.verify_replay(strange).matches
    journal.extract_files(strange, tmp_path / "files")
    with Reader(strange) as reader:
        journal.play(reader.frames(), journal.replay.ModelHost())
    with pytest.raises(journal.GrantsMissing):
        journal.resume(strange)
    assert check_resume(strange).obstacle
    names = [str(each) for each in opened]
    assert str(strange) in names
    assert not [each for each in names if each.startswith((str(room), "kept"))]


def test_grants_must_name_mounts_of_the_journal_once(path: Path, room: Path) -> None:
    with pytest.raises(journal.OptionError, match=r"no mount /typo.* it has /host"):
        journal.resume(path, grants=Grants(directories=[HostMount(str(room), "/typo")]))
    with pytest.raises(journal.OptionError, match="two directories"):
        Grants(directories=[HostMount("/a", "/host"), HostMount("/b", "/host")])
    with pytest.raises(journal.OptionError, match="of type HostMount"):
        Grants(directories=["/a"])  # type: ignore[list-item]


# -- the file of the module ------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The file of a module."""
    return Path(shutil.copy(guest("cat"), tmp_path / "module.wasm"))


@pytest.fixture
def bare(tmp_path: Path, module: Path, cache_dir: Path) -> Path:
    """A journal without its module, which its user has not recorded."""
    with journal.record(
        module, tmp_path / "j", embed=False, cache=cache_dir, approvals=tmp_path / "mine"
    ):
        pass
    return tmp_path / "j"


def test_a_module_file_is_read_only_if_the_user_recorded_approved_or_names_it(
    bare: Path, module: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with pytest.raises(journal.GrantsMissing) as caught:
        journal.resume(bare, cache=cache_dir)
    assert caught.value.options == (f"--module {module}",)
    with pytest.raises(journal.GrantsMissing):
        journal.verify_replay(bare, cache=cache_dir)
    journal.resume(bare, module=module, cache=cache_dir).close()
    journal.resume(bare, grants=Grants(module_files=[str(module)]), cache=cache_dir).close()
    journal.resume(bare, approvals=tmp_path / "mine", cache=cache_dir).close()
    assert journal.verify_replay(bare, module=module, cache=cache_dir).matches
    assert journal.verify_replay(bare, approvals=tmp_path / "mine", cache=cache_dir).matches


def test_a_journal_that_names_a_device_as_its_module_reads_nothing_of_it(
    bare: Path, tmp_path: Path, cache_dir: Path
) -> None:
    forged = alter_event_of(bare, tmp_path / "forged", ProcessStart, module_path="/dev/zero")
    for approvals in (tmp_path / "none", tmp_path / "mine"):
        with pytest.raises(journal.GrantsMissing, match="/dev/zero"):
            journal.resume(forged, approvals=approvals, cache=cache_dir)
    with pytest.raises(journal.ModuleRefused, match="is a character device"):
        journal.resume(forged, module="/dev/zero", cache=cache_dir)


def test_a_module_is_cut_out_of_a_journal_and_a_directory_is_asked_for(
    path: Path, tmp_path: Path, cache_dir: Path
) -> None:
    def cut_out(frames: list[Frame]) -> list[Frame]:
        start = alter_event(events_of(path)[0], embedded=False, module_path="/x\n'; rm -r ~")
        kept = [each for each in frames if each.tag != ModulePart.tag]
        assert kept[0].tag == ProcessStart.tag
        return replace_event(kept, 0, start)

    forged = rewrite(path, tmp_path / "forged", cut_out)
    with pytest.raises(journal.GrantsMissing) as caught:
        journal.resume(forged, approvals=tmp_path / "none", cache=cache_dir)
    assert caught.value.options[1] == r"--module $'/x\x0a\x27; rm -r ~'"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["plain", "with space", "it's", "a\nb", "\x1b[2J", "é", "\udcff"])
def test_options_are_quoted_for_a_shell(text: str) -> None:
    quoted = access_request.quote_argument(text)
    assert quoted.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(text)


# -- recordings ------------------------------------------------------------------------------------


def test_a_run_without_mounts_stores_no_approval(tmp_path: Path, cache_dir: Path) -> None:
    store = tmp_path / "approvals"
    with journal.record(guest("cat"), tmp_path / "j", approvals=store, cache=cache_dir):
        pass
    journal.resume(tmp_path / "j", approvals=store, cache=cache_dir).close()
    assert not store.exists()


def test_an_approval_that_cannot_be_stored_fails_no_run(
    room: Path, tmp_path: Path, cache_dir: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    notes: list[str] = []
    with journal.record(
        REMOTE,
        tmp_path / "j",
        mounts=[HostMount(str(room), "/host")],
        approvals=tmp_path / "file",
        note=notes.append,
        cache=cache_dir,
    ) as recorder:
        assert open_file(Remote(recorder), "kept") == 4
    (note,) = notes
    assert note.startswith(f"a resume will need --dir {room}::/host, because no approval was store")
