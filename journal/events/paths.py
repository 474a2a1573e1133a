"""Events of names in the guest's file tree. Paths are relative to the descriptor in the event."""

from enum import IntEnum, IntFlag
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Needed, Pinned, Role, event
from journal.events.wire_types import U16, U32, U64, Enumerated, Fd, FileBytes, GuestPath


class FileType(IntEnum):
    """File types of WASI, with their WASI numbers."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class OpenFlags(IntFlag):
    """The ``oflags`` of WASI's path_open."""

    CREATE = 1
    DIRECTORY = 2
    EXCLUSIVE = 4
    TRUNCATE = 8


class TimeFlags(IntFlag):
    """The ``fstflags`` of WASI, which select times to set, to a value or to the present."""

    ATIME = 1
    ATIME_NOW = 2
    MTIME = 4
    MTIME_NOW = 8


FileTypeField = Annotated[FileType, Enumerated(cs.Int8ul, FileType)]


@event(tag=14, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class CreateDirectory(Event):
    """The guest created a directory with path_create_directory."""

    fd: Fd
    path: GuestPath


@event(tag=15, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class RemoveDirectory(Event):
    """The guest removed an empty directory with path_remove_directory."""

    fd: Fd
    path: GuestPath


@event(tag=16, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class PathSetTimes(Event):
    """The guest set the times of a file by its path with path_filestat_set_times.

    ``flags`` are WASI's lookupflags (1: follow a symbolic link). ``fst_flags`` are its fstflags:
    they select the times to set, and the times to set to the present. Times are in nanoseconds
    since the epoch.
    """

    fd: Fd
    flags: U32
    st_atim: U64
    st_mtim: U64
    fst_flags: U16
    path: GuestPath


@event(tag=23, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class CreateHardLink(Event):
    """The guest created a hard link with path_link. ``old_flags`` are lookupflags."""

    old_fd: Fd
    old_flags: U32
    new_fd: Fd
    old_path: GuestPath
    new_path: GuestPath


@event(tag=24, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class CreateSymbolicLink(Event):
    """The guest created ``new_path``, a symbolic link to ``old_path``, with path_symlink."""

    fd: Fd
    old_path: GuestPath
    new_path: GuestPath


@event(tag=25, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class UnlinkFile(Event):
    """The guest unlinked a file with path_unlink_file."""

    fd: Fd
    path: GuestPath


@event(tag=26, group=Group.FILES, role=Role.EFFECT, rule=Needed())
class PathRename(Event):
    """The guest renamed a file or a directory with path_rename, which replaced ``new_path``."""

    old_fd: Fd
    new_fd: Fd
    old_path: GuestPath
    new_path: GuestPath


@event(tag=27, group=Group.FILES, role=Role.EFFECT, rule=Keep())
class ChangeDirectory(Event):
    """The guest changed its working directory with chdir.

    The same relative path has different meanings before and after it, so compaction retains all
    of these events.
    """

    path: GuestPath


@event(tag=150, group=Group.FILES, role=Role.PREAMBLE, rule=Pinned())
class FilePlaced(Event):
    """Contents put into an in-memory file system before the guest starts.

    ``path`` is absolute in the guest's tree. A large file takes several events, each with the
    ``offset`` of its ``data``. For a symbolic link ``data`` is the target of the link.
    """

    kind: FileTypeField
    offset: U64
    path: GuestPath
    data: FileBytes
