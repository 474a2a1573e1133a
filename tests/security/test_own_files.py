"""A guest does not reach its journal, its page index or the caches through a mount."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import journal
from journal import HostMount
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.own_paths import find_own_files
from journal.engine.tape import Tape
from journal.engine.wasi.filesystem.host_files import HostFile, HostTree
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.filesystem.host_paths import identify
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.errors import OptionError
from journal.fs import atomic_file
from journal.vfs.open_request import OpenRequest
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import Errno, FdFlags, OpenFlags, Rights, WasiError
from tests.support import wat
from tests.support.guest_runs import wait_for_end

CREATE = OpenFlags.CREATE | OpenFlags.TRUNCATE


class Room:
    """A mounted directory with a journal in ``sub``, as a guest sees it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "mount"
        self.sub = self.root / "sub"
        self.sub.mkdir(parents=True)
        self.path = self.sub / "x.journal"
        self.path.write_bytes(b"history")
        (self.sub / "other").write_bytes(b"other")
        self.own = OwnFiles([self.path])
        self.guest = HostDirectory(self.mount())

    def mount(self) -> HostTree:
        return HostTree(
            Tape(NullWriter()), str(self.root), writable=True, is_moved=False, own=self.own
        )

    def open(self, path: str, flags: int = 0) -> HostFile | HostDirectory:
        rights = Rights.FD_READ
        if flags != OpenFlags.DIRECTORY:
            rights |= Rights.FD_WRITE
        return self.guest.open(OpenRequest(9, 3, 1, flags, FdFlags(0), rights, rights, path))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def errno_of(call: Callable[[], object]) -> Errno | None:
    try:
        call()
    except WasiError as error:
        return Errno(error.errno)
    return None


TIMES = TimeUpdate(0, 0, 0)
NAMES = (
    "sub/x.journal",
    "sub/./x.journal",
    "sub/../sub/x.journal",
    "sub/x.journal/",
    "sub/X.Journal",
    "sub/x.journal.pages",
    "sub/.x.journal.0123456789ab.tmp",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_guest_finds_changes_and_makes_no_file_of_the_journal(name: str, room: Room) -> None:
    guest = room.guest
    lookups: dict[str, Callable[[], object]] = {
        "open": lambda: room.open(name),
        "stat": lambda: guest.stat_at(3, name, follow=True),
        "lstat": lambda: guest.stat_at(3, name, follow=False),
        "read link": lambda: guest.read_link(3, name),
        "times": lambda: guest.set_times_at(3, name, 0, TIMES),
        "unlink": lambda: guest.unlink(3, name),
        "remove": lambda: guest.remove_directory(3, name),
        "rename": lambda: guest.rename(3, name, guest, 3, "free"),
        "replace": lambda: guest.rename(3, "sub/other", guest, 3, name),
        "link from": lambda: guest.link(3, 0, name, guest, 3, "free"),
    }
    creations: dict[str, Callable[[], object]] = {
        "create": lambda: room.open(name, CREATE),
        "mkdir": lambda: guest.create_directory(3, name),
        "symlink": lambda: guest.symlink(3, "other", name),
        "link to": lambda: guest.link(3, 0, "sub/other", guest, 3, name),
    }
    assert {what: errno_of(call) for what, call in lookups.items()} == dict.fromkeys(
        lookups, Errno.NOENT
    )
    assert {what: errno_of(call) for what, call in creations.items()} == dict.fromkeys(
        creations, Errno.ACCES
    )
    assert {entry.name for entry in room.sub.iterdir()} == {"other", "x.journal"}
    assert room.path.read_bytes() == b"history"


def test_a_listing_omits_the_files_of_the_journal(room: Room) -> None:
    (room.sub / "x.journal.pages").touch()
    (room.sub / ".x.journal.0123456789ab.tmp").touch()
    os.link(room.path, room.root / "second")
    sub = room.open("sub", OpenFlags.DIRECTORY)
    assert isinstance(sub, HostDirectory)
    assert [entry.name for entry in sub.entries(4)] == ["other"]
    assert [entry.name for entry in room.guest.entries(3)] == ["sub"]


def test_a_second_name_and_a_link_lead_to_no_journal(room: Room) -> None:
    os.link(room.path, room.root / "second")
    (room.root / "link").symlink_to("sub/x.journal")
    (room.root / "way").symlink_to("sub")
    for name in ("second", "link", "way/x.journal"):
        assert errno_of(partial(room.open, name)) is Errno.NOENT
        assert errno_of(partial(room.open, name, CREATE)) is Errno.ACCES
    assert room.path.read_bytes() == b"history"


def test_the_directories_and_links_above_a_journal_keep_their_names(tmp_path: Path) -> None:
    room = Room(tmp_path)
    (room.root / "way").symlink_to("sub")
    room.own.add(room.root / "way" / "x.journal")
    guest = room.guest
    (room.root / "empty").mkdir()
    assert errno_of(lambda: guest.rename(3, "sub", guest, 3, "moved")) is Errno.BUSY
    assert errno_of(lambda: guest.rename(3, "empty", guest, 3, "sub")) is Errno.BUSY
    assert errno_of(lambda: guest.remove_directory(3, "sub")) is Errno.BUSY
    assert errno_of(lambda: guest.rename(3, "way", guest, 3, "moved")) is Errno.BUSY
    assert errno_of(lambda: guest.unlink(3, "way")) is Errno.BUSY
    assert errno_of(lambda: guest.rename(3, "empty", guest, 3, "full")) is None
    assert errno_of(lambda: guest.unlink(3, "sub/other")) is None


def test_a_compaction_that_replaces_the_file_changes_nothing(room: Room) -> None:
    sibling = atomic_file.make_temporary_path(room.path)
    sibling.write_bytes(b"shorter")
    assert errno_of(lambda: room.open(f"sub/{sibling.name}")) is Errno.NOENT
    sibling.replace(room.path)
    assert errno_of(lambda: room.open("sub/x.journal")) is Errno.NOENT
    assert errno_of(lambda: room.guest.unlink(3, "sub/x.journal")) is Errno.NOENT


def test_a_new_file_with_the_inode_of_a_replaced_journal_is_the_guests(room: Room) -> None:
    """The system reuses inodes; here a second name keeps the inode instead."""
    os.link(room.path, room.sub / "reused")
    assert errno_of(lambda: room.open("sub/reused")) is Errno.NOENT
    sibling = atomic_file.make_temporary_path(room.path)
    sibling.write_bytes(b"another journal")
    room.own.add(sibling)
    sibling.replace(room.path)
    assert errno_of(lambda: room.open("sub/reused")) is None
    assert errno_of(lambda: room.guest.unlink(3, "sub/reused")) is None
    os.link(room.path, room.sub / "second")
    assert errno_of(lambda: room.open("sub/second")) is Errno.NOENT


def test_a_directory_of_segments_is_hidden_with_later_segments(tmp_path: Path) -> None:
    room = Room(tmp_path)
    segments = room.root / "long.journal"
    room.own.add(segments)  # It is created later.
    segments.mkdir()
    (segments / "0000000001.journal").touch()
    for name in ("long.journal", "long.journal/0000000001.journal", "long.journal/new"):
        assert errno_of(partial(room.open, name)) is Errno.NOENT
    assert "long.journal" not in [entry.name for entry in room.guest.entries(3)]
    shutil.rmtree(segments)


def test_the_files_that_a_fork_shares_are_hidden_under_each_name(tmp_path: Path) -> None:
    room = Room(tmp_path)
    for name, roll in (("file", None), ("directory", journal.log.RollPolicy(1))):
        parent, child = room.root / name, room.root / f"fork of {name}"
        with journal.Writer(parent, roll=roll) as writer:
            for _ in range(3):
                writer.append_frame(224, b"x")
                writer.sync()
        journal.fork(parent, child, at=2)
        shared = "file" if roll is None else "directory/0000000000.journal"
        for own, other in ((child, shared), (parent, f"fork of {name}/0000000000.journal")):
            room.own = OwnFiles()
            room.own.add_journal(own)
            room.guest = HostDirectory(room.mount())
            assert errno_of(partial(room.open, other)) is Errno.NOENT
            assert errno_of(partial(room.open, other, CREATE)) is Errno.ACCES
            assert errno_of(partial(room.open, "sub/other")) is None
    before = (room.root / "file").stat()
    os.link(room.sub / "other", room.root / "second")
    assert errno_of(partial(room.open, "second")) is None
    assert before.st_size == (room.root / "file").stat().st_size > 0


def test_a_forged_journal_reopens_no_journal(room: Room) -> None:
    """Events may say that the guest had its journal open."""
    for name, errno in (("x.journal", Errno.STALE), ("other", None)):
        with (room.sub / name).open("rb") as opened:
            node = identify(opened.fileno(), ("sub", name))
        file = HostFile(room.mount(), node, os.O_RDWR, None)
        assert errno_of(partial(getattr, file, "handle")) is errno


def test_the_cache_and_the_key_are_hidden(tmp_path: Path) -> None:
    home = tmp_path / "home"
    modules = home / ".cache" / "wasm-journal" / "modules"
    modules.mkdir(parents=True)
    (modules.parent / "user.key").write_bytes(b"secret")
    tree = HostTree(
        Tape(NullWriter()),
        str(home),
        writable=True,
        is_moved=False,
        own=find_own_files(tmp_path / "x.journal", modules),
    )
    guest, below = HostDirectory(tree), ".cache/wasm-journal"
    for name in ("modules", "modules/code", "images", "user.key", ".user.key.0123456789ab.tmp"):
        assert errno_of(partial(guest.stat_at, 3, f"{below}/{name}", follow=True)) is (Errno.NOENT)
    assert errno_of(lambda: guest.create_directory(3, f"{below}/images")) is Errno.ACCES
    assert errno_of(lambda: guest.rename(3, ".cache", guest, 3, "moved")) is Errno.BUSY


def test_the_approvals_are_hidden(tmp_path: Path) -> None:
    approvals = tmp_path / "home" / "state" / "approvals"
    approvals.mkdir(parents=True)
    (approvals / "key").write_bytes(b"secret")
    own = find_own_files(tmp_path / "x.journal", tmp_path / "modules", approvals)
    tree = HostTree(
        Tape(NullWriter()), str(tmp_path / "home"), writable=True, is_moved=False, own=own
    )
    guest = HostDirectory(tree)
    for name in ("approvals", "approvals/key"):
        assert errno_of(partial(guest.stat_at, 3, f"state/{name}", follow=True)) is Errno.NOENT
    assert guest.entries(3)[0].name == "state"
    assert errno_of(lambda: guest.rename(3, "state", guest, 3, "moved")) is Errno.BUSY


def test_a_mount_inside_the_files_of_the_library_is_refused(
    tmp_path: Path, cache_dir: Path
) -> None:
    with pytest.raises(OptionError, match="belongs to the journal or its caches; mount another"):
        journal.record(
            wat.program(""),
            tmp_path / "y.journal",
            mounts=[HostMount(str(cache_dir), "/w")],
            cache=cache_dir,
        )
    assert not (tmp_path / "y.journal").exists()


def test_a_guest_runs_beside_its_journal_and_cannot_open_it(
    tmp_path: Path, cache_dir: Path
) -> None:
    name = "x.journal"
    program = wat.program(f"(call $exit {wat.path_open(len(name), 0)})", data=name)
    path = tmp_path / name
    mounts = [HostMount(str(tmp_path), "/w")]
    with journal.record(program, path, mounts=mounts, cache=cache_dir) as run:
        assert wait_for_end(run).code == Errno.NOENT
        with pytest.raises(FileNotFoundError):
            run.read_file("/w/x.journal")
    assert journal.verify_replay(path, cache=cache_dir).matches


def test_a_resumed_guest_cannot_open_its_journal(tmp_path: Path, cache_dir: Path) -> None:
    """The guest waits for input, and opens the journal after a resume."""
    name = "x.journal"
    program = wat.program(
        "(i32.store (i32.const 100) (i32.const 200)) (i32.store (i32.const 104) (i32.const 1))"
        "(drop (call $fd_read (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 120)))"
        f"(call $exit {wat.path_open(len(name), 0)})",
        data=name,
    )
    path = tmp_path / name
    mounts = [HostMount(str(tmp_path), "/w")]
    with journal.record(program, path, mounts=mounts, cache=cache_dir) as run:
        run.stop()
    with journal.resume(path, stdin=b"x", cache=cache_dir, strict=False) as run:
        assert wait_for_end(run).code == Errno.NOENT
