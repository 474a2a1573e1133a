"""Journals of file events."""

from __future__ import annotations

from pathlib import Path

from journal import Event, Writer
from journal.events.descriptors import CloseFileDescriptor, FileDescriptorWrite, OpenFileDescriptor
from journal.events.paths import (
    CreateDirectory,
    CreateHardLink,
    CreateSymbolicLink,
    FilePlaced,
    FileType,
    PathSetTimes,
)
from journal.events.process import Mount, MountKind

MTIME = 1_700_000_000_123_456_789


EVERYTHING = (1 << 30) - 1


def opening(fd: int, path: str, dirfd: int = 3) -> OpenFileDescriptor:
    return OpenFileDescriptor(
        fd=fd,
        dirfd=dirfd,
        dirflags=1,
        o_flags=1,
        fs_flags=0,
        fs_rights_base=EVERYTHING,
        fs_rights_inheriting=0,
        path=path,
    )


def mount(guest: str, fd: int = 3, kind: MountKind = MountKind.MEMORY) -> Mount:
    return Mount(fd=fd, kind=kind, guest=guest, host="")


def write_events(path: Path, *events: Event) -> Path:
    with Writer(path) as writer:
        for event in events:
            writer.append(event)
    return path


def write_small_tree(path: Path) -> Path:
    """Write a journal of a few files of every kind."""
    return write_events(
        path,
        mount("/"),
        FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path="/placed", data=b"before"),
        CreateDirectory(fd=3, path="folder"),
        opening(6, "folder/öl\n"),
        FileDescriptorWrite(fd=6, offset=3, data=b"oil"),
        CloseFileDescriptor(fd=6),
        CreateHardLink(old_fd=3, old_flags=0, new_fd=3, old_path="folder/öl\n", new_path="again"),
        CreateSymbolicLink(fd=3, old_path="../../etc/passwd", new_path="link"),
        CreateSymbolicLink(fd=3, old_path="folder", new_path="inside"),
        PathSetTimes(fd=3, flags=0, st_atim=0, st_mtim=MTIME, fst_flags=4, path="folder/öl\n"),
    )
