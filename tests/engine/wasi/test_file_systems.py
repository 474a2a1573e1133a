"""In-memory files compared with host files: the same calls have the same results."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.engine.tape import Batch, Tape
from journal.engine.wasi.descriptors import GuestDirectory
from journal.engine.wasi.filesystem.host_files import HostFile, HostTree
from journal.engine.wasi.filesystem.host_fs import HostDirectory
from journal.engine.wasi.filesystem.memory_fs import MemoryDirectory
from journal.engine.wasi.filesystem.tape_recorder import TapeRecorder
from journal.events.paths import FileType
from journal.vfs import DirectoryNode, MemoryBackend, MemoryFile, OpenRequest
from journal.wasi_abi import (
    SYMLINK_FOLLOW,
    FileStat,
    OpenFlags,
    Rights,
    WasiError,
)

FD = 3
SIZE_MAX = 1 << 20


@dataclass
class Frames:
    """A writer that keeps frames in a list, one microsecond apart."""

    kept: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def time(self) -> int:
        return 1_000_000 + len(self.kept)

    def append_frame(self, tag: int, payload: bytes) -> int:
        self.kept.append((tag, payload))
        return len(self.kept) - 1

    def batch(self) -> Batch:
        seqs = range(len(self.kept))
        tags, payloads = zip(*self.kept, strict=True)
        return Batch(seqs, tags, payloads, [1_000_001 + seq for seq in seqs])


names = st.sampled_from(["a", "b", "d", ".", ".."])
paths = st.builds(
    lambda parts, slash: "/".join(parts) + slash,
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "/"]),
)
rights = st.sampled_from([Rights(0), Rights.FD_READ, Rights.FD_WRITE, Rights(66)])
oflags = st.integers(0, 15).map(OpenFlags)
lookups = st.sampled_from([0, SYMLINK_FOLLOW])
operations = st.one_of(
    st.tuples(st.just("open"), paths, lookups, oflags, rights, st.binary(max_size=5)),
    st.tuples(st.just("create_directory"), paths),
    st.tuples(st.just("remove_directory"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("symlink"), paths, paths),
    st.tuples(st.just("read_link"), paths),
    st.tuples(st.just("stat_at"), paths, st.booleans()),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("link"), lookups, paths, paths),
)


def common_attributes(stat: FileStat) -> tuple[int, ...]:
    """Return the attributes that both file systems must agree on.

    Size and link count of a directory depend on the file system.
    """
    if stat.filetype == FileType.DIRECTORY:
        return (stat.filetype,)
    return (stat.filetype, stat.links, stat.size)


def use(root: GuestDirectory, name: str, *arguments: Any) -> Any:
    """Perform one operation; return its result or its errno."""
    try:
        if name == "open":
            return open_and_use(root, *arguments)
        if name == "stat_at":
            return common_attributes(root.stat_at(FD, arguments[0], follow=arguments[1]))
        if name == "rename":
            return root.rename(FD, arguments[0], root, FD, arguments[1])
        if name == "link":
            return root.link(FD, arguments[0], arguments[1], root, FD, arguments[2])
        return getattr(root, name)(FD, *arguments)
    except WasiError as refusal:
        return f"errno {refusal.errno}"


def open_and_use(
    root: GuestDirectory, path: str, lookup: int, flags: OpenFlags, rights: Rights, data: bytes
) -> Any:
    opening = OpenRequest(FD + 1, FD, lookup, flags, 0, rights, rights, path)
    opened = root.open(opening)
    try:
        if isinstance(opened, (MemoryDirectory, HostDirectory)):
            entries = [(entry.name, entry.filetype) for entry in opened.entries(FD + 1)]
            return entries, common_attributes(opened.stat(FD + 1))
        assert isinstance(opened, (MemoryFile, HostFile))
        found: list[Any] = []
        if opening.is_writable:
            found.append(opened.write(FD + 1, 2, data))
        if opening.is_readable:
            found.append(opened.read(FD + 1, 0, 100))
        return [*found, opened.size(FD + 1), common_attributes(opened.stat(FD + 1))]
    finally:
        opened.close()


def everything(root: GuestDirectory) -> list[Any]:
    """Return all files below a directory by name."""
    found: list[Any] = []
    for name, _, filetype in root.entries(FD):
        stat = common_attributes(root.stat_at(FD, name, follow=False))
        if filetype == FileType.DIRECTORY:
            rights = Rights.FD_READ
            opening = OpenRequest(FD + 1, FD, 0, OpenFlags.DIRECTORY, 0, rights, rights, name)
            below = root.open(opening)
            assert isinstance(below, (MemoryDirectory, HostDirectory))
            found.append((name, everything(below)))
            below.close()
        else:
            found.append((name, stat))
    return found


def is_allowed(operation: tuple[Any, ...]) -> bool:
    """Return whether the WASI functions pass the call on; they refuse some contradictions."""
    changes = OpenFlags.CREATE | OpenFlags.EXCLUSIVE | OpenFlags.TRUNCATE
    if operation[0] != "open":
        return True
    return not (operation[3] & OpenFlags.DIRECTORY and operation[3] & changes)


def make_backend(tape: Tape) -> MemoryBackend:
    return MemoryBackend(SIZE_MAX, TapeRecorder(tape), device=1)


@given(st.lists(operations.filter(is_allowed), max_size=25))
def test_files_in_memory_answer_as_files_of_the_host(story: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = make_backend(Tape(Frames()))
        memory = MemoryDirectory(backend, backend.root())
        host_tree = HostTree(Tape(Frames()), folder, writable=True, is_moved=False)
        host = HostDirectory(host_tree)
        for operation in story:
            assert use(memory, *operation) == use(host, *operation), operation
        assert everything(memory) == everything(host)
        host_tree.close()


@given(st.lists(operations.filter(is_allowed), max_size=25))
def test_a_replay_of_the_host_s_answers_needs_no_host(story: list[tuple[Any, ...]]) -> None:
    frames = Frames()
    with tempfile.TemporaryDirectory() as folder:
        tree = HostTree(Tape(frames), folder, writable=True, is_moved=False)
        heard = [use(HostDirectory(tree), *operation) for operation in story]
        tree.close()
    if not frames.kept:
        return
    tape = Tape(Frames(), iter([frames.batch()]))
    tape.start()
    gone = HostTree(tape, str(Path(folder) / "nowhere"), writable=True, is_moved=False)
    assert [use(HostDirectory(gone), *operation) for operation in story] == heard
    assert not tape.replaying


@given(st.lists(operations.filter(is_allowed), max_size=25))
def test_a_replay_makes_the_same_files_with_the_same_times(story: list[tuple[Any, ...]]) -> None:
    frames = Frames()
    first = make_backend(Tape(frames))
    for operation in story:
        use(MemoryDirectory(first, first.root()), *operation)
    if not frames.kept:
        return
    tape = Tape(Frames(), iter([frames.batch()]))
    tape.start()
    second = make_backend(tape)
    for operation in story:
        use(MemoryDirectory(second, second.root()), *operation)
    assert all_stats(first) == all_stats(second)
    assert first.size == second.size


def all_stats(backend: MemoryBackend) -> list[tuple[str, FileStat]]:
    found: list[tuple[str, FileStat]] = []
    pending = [("", backend.root())]
    while pending:
        path, node = pending.pop()
        found.append((path, node.stat(backend.device)))
        for name, below in node.entries.items():
            found.append((f"{path}/{name}", below.stat(backend.device)))
            if isinstance(below, DirectoryNode):
                pending.append((f"{path}/{name}", below))
    return sorted(found)


@pytest.mark.parametrize(
    ("flags", "waits"),
    [
        (0, False),
        (OpenFlags.DIRECTORY, False),
        (OpenFlags.CREATE, True),
        (OpenFlags.TRUNCATE, True),
    ],
)
@pytest.mark.parametrize("rights", [Rights.FD_READ, Rights.FD_READ | Rights.FD_WRITE])
def test_only_an_open_that_may_change_the_host_passes_the_barrier(
    tmp_path: Path, rights: Rights, flags: OpenFlags, waits: bool
) -> None:
    (tmp_path / "file").touch()
    passed: list[bool] = []
    tape = Tape(Frames(), barrier=lambda: passed.append(True))
    tree = HostTree(tape, str(tmp_path), writable=True, is_moved=False)
    path = "." if flags & OpenFlags.DIRECTORY else "file"
    readable = Rights.FD_READ if path == "." else rights
    HostDirectory(tree).open(
        OpenRequest(4, FD, SYMLINK_FOLLOW, flags, 0, readable, 0, path)
    ).close()
    tree.close()
    assert bool(passed) is waits
